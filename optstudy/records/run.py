"""The records of a run: epochs, observations, rungs, and a final run as read back from MLflow."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optstudy.records.curvature import FinalCurvature
from optstudy.records.naming import RunId
from optstudy.records.provenance import Provenance

Outcome = Literal["running", "completed", "diverged", "failed"]


@dataclass(frozen=True)
class EpochRecord:
    """The results of one epoch of training. A number that is not finite is None."""

    epoch: int  # counted from 1
    train_loss: float | None  # mean over the epoch's batches, while the weights moved
    train_accuracy: float | None  # fraction, likewise
    heldout_loss: float | None
    heldout_accuracy: float  # fraction
    gradient_norm: float | None  # Euclidean norm of the last mini-batch's gradient, where its step was taken
    seconds: float  # training alone
    finished_at: float  # Unix time
    gradients: int  # mini-batch gradients spent by this epoch's steps
    hessian_products: int
    exact_loss: float | None = None  # over the whole training set, weights fixed; None where no sweep was due
    exact_accuracy: float | None = None
    full_gradient_norm: float | None = None

    @property
    def gradient_work(self) -> float:
        """Forward and backward passes of one mini-batch; a Hessian product counts 2."""
        return self.gradients + 2 * self.hessian_products


@dataclass(frozen=True)
class Observation:
    """The values that a probe measured at one step."""

    probe: str
    step: int
    values: Mapping[str, float | str | None]  # a number that is not finite is None


@dataclass(frozen=True)
class Rung:
    """Consecutive epochs of one run, as a worker returns them and as they are stored on disk."""

    epochs: tuple[EpochRecord, ...]
    observations: tuple[Observation, ...]
    outcome: Outcome
    predicted: tuple[int, ...] | None = None  # classes of the held-out images, once the run has ended
    problem: str = ""  # what went wrong, where the outcome is failed
    machine: Mapping[str, str] = dataclasses.field(default_factory=dict)  # the one that computed it


@dataclass(frozen=True)
class CostToTarget:
    """What a run had spent when its test accuracy first reached its study's target."""

    epochs: float
    seconds: float
    gradient_work: float


@dataclass(frozen=True)
class Predictions:
    """Classes of the test images, true and predicted, ``(N,)`` each."""

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: tuple[str, ...] = ()  # names in the order of the numbers; empty where they are not known

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are classified right."""
        found: NDArray[np.bool_] = self.labels == self.predicted
        return found


@dataclass(frozen=True)
class FinalRun:
    """One finished final run, as read back from MLflow."""

    run_id: str
    study: str
    optimizer: str
    config: str  # best, paper, default
    seed: int
    outcome: str  # completed or diverged
    train_accuracy: float  # fraction, exact sweep over the training images
    test_accuracy: float  # fraction
    paper_setting: bool  # model and data are the paper's, so its Table I may stand beside ours
    seconds: float  # of training, by the clock, while other workers ran
    gradient_work: float
    margin: float  # of test accuracy, a fraction, inside which its study counts optimizers as equivalent
    params: dict[str, str]  # hyperparameters as MLflow returns them, strings
    target: float | None = None  # test accuracy, a fraction, fixed with the study; None where it had none
    cost_to_target: CostToTarget | None = None  # None where the run never did
    curvature: FinalCurvature | None = None  # where it ended; None where that was not measured
    steps: int = 0  # that it took; 0 where that is not known
    step_seconds: float | None = (
        None  # of one step, timed while the other workers idled; None where it was not
    )
    files: str = ""  # URI of its artifacts
    separated: float | None = (
        None  # share of its last steps whose ratio was separated; None where none were followed
    )
    finished_at: float | None = None  # Unix time
    provenance: Provenance = field(default_factory=Provenance)
    key: str = ""  # of everything that determines the run; "" where it is not known
    metrics: Mapping[str, float] = field(default_factory=dict)  # final metrics that have no field here

    @property
    def id(self) -> RunId:
        """Which run it is; ``run_id`` is MLflow's name for it."""
        return RunId(self.study, self.optimizer, self.config, self.seed)

    @property
    def pace_seconds(self) -> float:
        """Seconds of training at the pace of its timed steps, by the clock where none were timed."""
        return self.seconds if self.step_seconds is None else self.steps * self.step_seconds


@dataclass(frozen=True)
class FinalRuns:
    """The final runs of some studies, and counts of the excluded ones."""

    runs: tuple[FinalRun, ...]
    excluded: dict[str, int]  # why -> how many runs: unfinished, failed, superseded
