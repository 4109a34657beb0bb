"""A search of hyperparameters: its trials, its finalists, and what it chose."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from optstudy.records.space import Space

TrialState = Literal["completed", "pruned", "diverged", "failed"]
Objective = Literal["accuracy", "loss"]


# What a diverged trial is told, since Optuna hides a NaN from its sampler. No trial is told anything worse.
WORST = {"accuracy": 0.0, "loss": 100.0}


@dataclass(frozen=True)
class Trial:
    """One configuration tried."""

    number: int
    params: dict[str, Any]  # hyperparameters as the optimizer takes them: lr, momentum, beta_1, ...
    state: TrialState
    score: float | None  # the objective at the last rung; None where it is not finite or the trial failed
    scores: tuple[float | None, ...]  # the objective at the end of each rung
    epochs: int  # epochs trained
    gradient_work: float  # forward and backward passes of one mini-batch; a Hessian product counts 2


@dataclass(frozen=True)
class Finalist:
    """One of a search's best trials, trained again from other seeds before one is chosen."""

    trial: int  # its number
    seeds: tuple[int, ...]
    scores: tuple[float | None, ...]  # the objective at the end of each; None where it is not finite
    gradient_work: float  # of all of them

    def mean(self, objective: Objective) -> float:
        """Mean score over the seeds, one that is not finite counted as the worst; none counts as worse."""
        worst = WORST[objective]
        scores = [worst if score is None else score for score in self.scores]
        return fmean(scores if objective == "accuracy" else [min(score, worst) for score in scores])


@dataclass(frozen=True)
class Searched:
    """A finished search."""

    optimizer: str
    objective: Objective  # of the validation split
    trials: tuple[Trial, ...]
    best: Trial | None  # that is chosen; None if no trial completed
    importances: dict[str, float]  # share of each hyperparameter, summing to 1; empty where it is not known
    finalists: tuple[Finalist, ...] = ()  # empty where the best score decided at once

    @property
    def gradient_work(self) -> float:
        """Of all trials and finalists."""
        return sum(trial.gradient_work for trial in self.trials) + sum(
            f.gradient_work for f in self.finalists
        )


def best_trial(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The completed trial with the best score, of equal ones the first; None if none completed."""
    return next(iter(best_trials(trials, objective, 1)), None)


def best_trials(trials: Sequence[Trial], objective: Objective, count: int) -> tuple[Trial, ...]:
    """The completed trials with the best scores, the best first, of equal ones the one with the lower number.

    Of trials with one configuration only the first counts: the others are the same run.
    """
    sign = 1 if objective == "accuracy" else -1
    completed = [trial for trial in trials if trial.state == "completed" and trial.score is not None]
    ordered = sorted(completed, key=lambda trial: (-sign * (trial.score or 0.0), trial.number))
    different: dict[str, Trial] = {}
    for trial in ordered:
        different.setdefault(repr(trial.params), trial)
    return tuple(different.values())[:count]


def chosen(finalists: Sequence[Finalist], objective: Objective) -> Finalist:
    """The finalist with the best mean score, of equal ones the first; the scores of the search do not count.

    They were the highest of many, and so flatter those that they chose.
    """
    sign = 1 if objective == "accuracy" else -1
    return max(finalists, key=lambda finalist: sign * finalist.mean(objective))


@dataclass(frozen=True)
class SearchEvidence:
    """One finished search."""

    study: str
    searched: Searched
    space: Space
    settings: dict[str, Any]  # the keys of the specification that govern tuning, and the study's seed

    def to_json(self) -> bytes:
        """Serialise; `from_json` gives back the same, but of the space's file its name alone."""
        space = dataclasses.replace(self.space, source=Path(self.space.source.name))  # not where it lies
        return json.dumps(
            dataclasses.asdict(dataclasses.replace(self, space=space)), indent=1, default=str
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "SearchEvidence":
        """Read what `to_json` wrote."""
        content = json.loads(data)
        space = Space.from_dict(content["space"])
        return cls(content["study"], _searched(content["searched"]), space, content["settings"])


def _searched(content: Mapping[str, Any]) -> Searched:
    trials = tuple(_trial(trial) for trial in content["trials"])
    finalists = [
        Finalist(**{**one, "seeds": tuple(one["seeds"]), "scores": tuple(one["scores"])})
        for one in content["finalists"]
    ]
    best = _trial(content["best"]) if content["best"] else None
    return Searched(**{**content, "trials": trials, "best": best, "finalists": tuple(finalists)})


def _trial(content: Mapping[str, Any]) -> Trial:
    return Trial(**{**content, "scores": tuple(content["scores"])})


@dataclass(frozen=True)
class Step:
    """Where a search stood when a trial had ended."""

    trial: int
    gradient_work: float  # of all trials so far
    best: float | None  # score of the completed trials so far; None before the first


@dataclass(frozen=True)
class SearchSummary:
    """One finished search of a study."""

    study: str
    optimizer: str
    objective: str  # accuracy or loss, of the validation images
    trials: dict[str, int]  # how many, by how they ended
    gradient_work: float  # of trials and finalists; a forward and backward pass of one mini-batch is 1
    chosen: int | None  # number of the trial; None where none completed
    config: dict[str, Any]  # its hyperparameters
    score: float | None  # of the chosen trial in the search
    finalists: (
        int  # best trials that were trained again before one was chosen; 0 where the score decided at once
    )
    score_again: float | None  # of the chosen one, mean over the seeds from which it was trained again
    curve: tuple[Step, ...]


def summarise(content: Mapping[str, Any]) -> SearchSummary:
    """Summarise a search from the record that `tune` logs, ``search.json``."""
    searched = content["searched"]
    best, finalists = searched["best"], searched["finalists"]
    again = [one for one in finalists if best and one["trial"] == best["number"]]
    curve = _curve(searched["trials"], searched["objective"])
    return SearchSummary(
        study=content["study"],
        optimizer=searched["optimizer"],
        objective=searched["objective"],
        trials=dict(sorted(Counter(trial["state"] for trial in searched["trials"]).items())),
        gradient_work=sum(one["gradient_work"] for one in (*searched["trials"], *finalists)),
        chosen=best["number"] if best else None,
        config=best["params"] if best else {},
        score=best["score"] if best else None,
        finalists=len(finalists),
        score_again=_mean(again[0]["scores"]) if again else None,
        curve=curve,
    )


def _curve(trials: list[Mapping[str, Any]], objective: str) -> tuple[Step, ...]:
    better = max if objective == "accuracy" else min
    steps: list[Step] = []
    work, best = 0.0, None
    for trial in trials:
        work += trial["gradient_work"]
        if trial["state"] == "completed" and trial["score"] is not None:
            best = trial["score"] if best is None else better(best, trial["score"])
        steps.append(Step(trial["number"], work, best))
    return tuple(steps)


def _mean(scores: list[float | None]) -> float | None:
    """Return the mean, None where one of the scores was not finite."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(scores) if len(known) == len(scores) else None
