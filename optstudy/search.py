"""One optimizer's search: from a space to its best configuration. The only importer of Optuna."""

from dataclasses import dataclass
from typing import Any, Literal

TrialState = Literal["completed", "pruned", "diverged", "failed"]


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
class Searched:
    """A finished search."""

    optimizer: str
    objective: Literal["accuracy", "loss"]  # of the validation split
    trials: tuple[Trial, ...]
    best: Trial
    importances: dict[str, float]  # share of each hyperparameter, summing to 1; empty where it cannot be told
