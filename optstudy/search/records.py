"""What is searched how, what is asked and answered, and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

TrialState = Literal["completed", "pruned", "diverged", "failed"]

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

    def mean(self, objective: Literal["accuracy", "loss"]) -> float:
        """Mean score over the seeds, one that is not finite counted as the worst; none counts as worse."""
        worst = WORST[objective]
        scores = [worst if score is None else score for score in self.scores]
        return fmean(scores if objective == "accuracy" else [min(score, worst) for score in scores])


@dataclass(frozen=True)
class Searched:
    """A finished search."""

    optimizer: str
    objective: Literal["accuracy", "loss"]  # of the validation split
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


@dataclass(frozen=True)
class Settings:
    """How to search."""

    trials: int  # a multiple of batch
    batch: int
    sampler: str  # tpe, gp, random, qmc
    startup_trials: int
    pruner: str  # median, hyperband, none
    objective: Literal["accuracy", "loss"]
    epochs: int
    rung_epochs: int
    seed: int


@dataclass(frozen=True)
class Ask:
    """A trial to train until the end of an epoch."""

    number: int
    params: dict[str, Any]
    since: int
    until: int


@dataclass(frozen=True)
class Answer:
    """How a trial stands at the end of a rung."""

    state: Literal["running", "completed", "diverged", "failed"]
    score: float | None
    epochs: int
    gradient_work: float


def best_trial(trials: Sequence[Trial], objective: Literal["accuracy", "loss"]) -> Trial | None:
    """The completed trial with the best score, of equal ones the first; None if none completed."""
    return next(iter(best_trials(trials, objective, 1)), None)


def best_trials(
    trials: Sequence[Trial], objective: Literal["accuracy", "loss"], count: int
) -> tuple[Trial, ...]:
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


def chosen(finalists: Sequence[Finalist], objective: Literal["accuracy", "loss"]) -> Finalist:
    """The finalist with the best mean score, of equal ones the first; the scores of the search do not count.

    They were the highest of many, and so flatter those that they chose.
    """
    sign = 1 if objective == "accuracy" else -1
    return max(finalists, key=lambda finalist: sign * finalist.mean(objective))
