"""A finished search: its trials and finalists, and the rules by which they are ranked and the best is selected."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from optstudy.errors import count_reasons
from optstudy.records.forms import from_form, to_form
from optstudy.records.space import Space

TrialState = Literal["running", "completed", "pruned", "diverged", "failed"]
Objective = Literal["accuracy", "loss"]

# The score reported to Optuna for a diverged trial, since Optuna hides a NaN from its sampler. No score is worse.
WORST = {"accuracy": 0.0, "loss": 100.0}


@dataclass(frozen=True)
class Trial:
    """A trial: one configuration and its scores."""

    number: int
    params: dict[str, Any]  # hyperparameters by name: lr, momentum, beta_1, ...
    state: TrialState
    score: float | None  # the objective at the last rung; None if it is not finite or the trial failed
    scores: tuple[float | None, ...]  # the objective at the end of each rung
    epochs: int  # number of trained epochs
    gradient_work: float  # forward and backward passes of one mini-batch; a Hessian product counts 2
    problem: str = ""  # the error, if the trial failed


@dataclass(frozen=True)
class Finalist:
    """One of a search's best trials, retrained from other seeds to select the best of them."""

    trial: int  # number of the trial
    seeds: tuple[int, ...]
    scores: tuple[float | None, ...]  # the objective at the end of each run; None if it is not finite
    gradient_work: float  # of all these runs

    def mean(self, objective: Objective) -> float:
        """Mean score over the seeds; a score that is not finite, or worse than `WORST`, counts as `WORST`."""
        worst = WORST[objective]
        scores = [worst if score is None else score for score in self.scores]
        return fmean(scores if objective == "accuracy" else [min(score, worst) for score in scores])


@dataclass(frozen=True)
class SearchResult:
    """One optimizer's finished search."""

    study: str
    space: Space
    objective: Objective  # of the validation split
    trials: tuple[Trial, ...]
    best: Trial | None  # see `select_best`; None if no trial completed
    finalists: tuple[Finalist, ...] = ()  # empty if the best trial is selected by its score
    importances: dict[str, float] = field(default_factory=dict)  # shares that sum to 1; empty if unknown
    settings: dict[str, Any] = field(default_factory=dict)  # keys of the specification that govern tuning
    sources: dict[str, dict[str, int]] = field(
        default_factory=dict
    )  # number of trials by user's file and hash

    @property
    def optimizer(self) -> str:
        """The optimizer's name."""
        return self.space.name

    @property
    def distinct(self) -> int:
        """Number of distinct configurations among the trials; a repeated one gives the same run again."""
        return len({repr(trial.params) for trial in self.trials})

    @property
    def gradient_work(self) -> float:
        """Gradient work of all trials and finalists."""
        work = [trial.gradient_work for trial in self.trials]
        return sum(work) + sum(finalist.gradient_work for finalist in self.finalists)

    @property
    def failures(self) -> dict[str, int]:
        """The recorded reasons why trials failed, the most frequent first, each with its number of trials."""
        return count_reasons(trial.problem for trial in self.trials)

    @property
    def best_mean(self) -> float | None:
        """Mean score of the best trial over the seeds from which it was retrained; None if it was not retrained."""
        number = None if self.best is None else self.best.number
        means = [finalist.mean(self.objective) for finalist in self.finalists if finalist.trial == number]
        return means[0] if means else None

    def summary(self) -> dict[str, Any]:
        """Return a summary of the search as plain values, for ``comparison.json``."""
        curve, work = [], 0.0
        for trial, best in zip(self.trials, running_best(self.trials, self.objective), strict=True):
            work += trial.gradient_work
            curve.append({"trial": trial.number, "gradient_work": work, "best": best})
        return {
            "study": self.study,
            "optimizer": self.optimizer,
            "objective": self.objective,
            "trials": count_states(self.trials),
            "failures": self.failures,
            "distinct": self.distinct,
            "gradient_work": self.gradient_work,
            "chosen": self.best.number if self.best else None,
            "config": self.best.params if self.best else {},
            "score": self.best.score if self.best else None,
            "finalists": len(self.finalists),
            "score_again": self.best_mean,
            "curve": curve,
        }

    def to_form(self) -> dict[str, Any]:
        """Return the contents of ``search.json``; where the space file is named without its folder."""
        form = to_form(replace(self, space=replace(self.space, source=Path(self.space.source.name))))
        names = ("objective", "trials", "best", "importances", "finalists")
        searched = {"optimizer": self.optimizer, **{name: form.pop(name) for name in names}}
        return {"study": form["study"], "searched": searched, **form}


def read_search(content: Any, where: str) -> SearchResult:
    """Read the contents of ``search.json``.

    Raises:
        FormError: If the content is not a search.
    """
    fields = from_form(dict[str, Any], content, where)
    searched = from_form(dict[str, Any], fields.pop("searched", None), f"{where}: searched")
    searched.pop("optimizer", None)  # the space has its name too
    return from_form(SearchResult, fields | searched, where)


def best_trials(trials: Sequence[Trial], objective: Objective, count: int) -> tuple[Trial, ...]:
    """Return the completed trials with the best scores, best first; ties go to the lower number.

    Of trials with the same configuration only the first counts, since the others repeat its run.
    """
    sign = 1 if objective == "accuracy" else -1
    completed = [trial for trial in trials if trial.state == "completed" and trial.score is not None]
    distinct: dict[str, Trial] = {}
    for trial in sorted(completed, key=lambda trial: (-sign * (trial.score or 0.0), trial.number)):
        distinct.setdefault(repr(trial.params), trial)
    return tuple(distinct.values())[:count]


def select_best(
    trials: Sequence[Trial], objective: Objective, finalists: Sequence[Finalist] = ()
) -> Trial | None:
    """Return the best trial of a search; None if no trial completed.

    Of finalists, the one with the best mean is selected, and of equal means the first. Their scores in the search are
    ignored: as the highest of many they are biased upwards.
    """
    if not finalists:
        return next(iter(best_trials(trials, objective, 1)), None)
    sign = 1 if objective == "accuracy" else -1
    number = max(finalists, key=lambda finalist: sign * finalist.mean(objective)).trial
    return next(trial for trial in trials if trial.number == number)


def running_best(trials: Sequence[Trial], objective: Objective) -> list[float | None]:
    """Return the best score of the completed trials so far, after each trial; None before the first."""
    better = max if objective == "accuracy" else min
    best: float | None = None
    scores = []
    for trial in trials:
        if trial.state == "completed" and trial.score is not None:
            best = trial.score if best is None else better(best, trial.score)
        scores.append(best)
    return scores


def count_states(trials: Sequence[Trial]) -> dict[str, int]:
    """Return the number of trials by state."""
    return dict(sorted(Counter(trial.state for trial in trials).items()))
