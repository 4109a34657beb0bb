"""The records of a run: epochs, observations, rungs, and a final run as read back from MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from optstudy.errors import OptstudyError
from optstudy.records.arrays import ArrayRecord
from optstudy.records.curvature import FinalCurvature
from optstudy.records.naming import RunId
from optstudy.records.provenance import Provenance

Outcome = Literal["running", "completed", "diverged", "failed"]
_LARGEST = 10**15  # of a count, and of a Unix time in seconds
PROBLEM = "problem"  # the only value of an observation whose probe failed


@dataclass(frozen=True)
class EpochRecord:
    """The results of one epoch of training. A number that is not finite is None."""

    epoch: int  # counted from 1
    train_loss: float | None  # mean over the epoch's batches, during training
    train_accuracy: float | None  # fraction, likewise
    heldout_loss: float | None
    heldout_accuracy: float  # fraction
    gradient_norm: float | None  # Euclidean norm of the last mini-batch's gradient, before its step
    seconds: float  # training alone
    finished_at: float  # Unix time
    gradients: int  # mini-batch gradients computed in this epoch's steps
    hessian_products: int
    exact_loss: float | None = None  # over the whole training set, weights fixed; None if not measured
    exact_accuracy: float | None = None
    full_gradient_norm: float | None = None
    steps: int | None = None  # None if each step computed one gradient
    losses: int = 0  # mini-batch losses computed without a gradient

    def __post_init__(self) -> None:
        for name in ("train_accuracy", "heldout_accuracy", "exact_accuracy"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise OptstudyError(f"{name} is {value}; it must be a number from 0 to 1")
        for name in ("epoch", "seconds", "finished_at", "gradients", "hessian_products", "steps", "losses"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _LARGEST:
                raise OptstudyError(f"{name} is {value}; it must be a number from 0 to {_LARGEST:,}")

    @property
    def step_count(self) -> int:
        """Steps of the optimizer."""
        return self.gradients if self.steps is None else self.steps

    @property
    def gradient_work(self) -> float:
        """Forward and backward passes of a mini-batch; a Hessian product counts as 2, a forward pass alone as 1/3."""
        return self.gradients + self.losses / 3 + 2 * self.hessian_products


@dataclass(frozen=True)
class Observation:
    """The values that a probe measured at one step."""

    probe: str
    step: int
    values: Mapping[str, float | str | None]  # a number that is not finite is None

    @property
    def problem(self) -> str:
        """Why the probe failed at this step, after which it observed no more; "" if it did not fail."""
        return str(self.values.get(PROBLEM, ""))


@dataclass(frozen=True)
class Rung:
    """Consecutive epochs of one run, as returned by a worker and stored on disk."""

    epochs: tuple[EpochRecord, ...]
    observations: tuple[Observation, ...]
    outcome: Outcome
    # Predicted classes of the held-out images, at the end of the run.
    predicted: tuple[int, ...] | None = None
    problem: str = ""  # the error, if the outcome is failed
    machine: Mapping[str, str] = field(default_factory=dict)  # on which it was computed

    def check(self, until: int, predictions: int | None = None) -> None:
        """Check that the rung is whole.

        Args:
            until: The epoch with which it ends, unless the run diverges or fails before.
            predictions: Number of predicted classes at the end of the run; None to check no predictions.

        Raises:
            OptstudyError: If it is not.
        """
        epochs = [record.epoch for record in self.epochs]
        if self.outcome == "failed":
            return
        if not epochs or epochs != [*range(epochs[0], epochs[-1] + 1)] or epochs[0] < 1:
            raise OptstudyError(f"epochs are {epochs}; they must be one or more in a row")
        if epochs[-1] > until or (epochs[-1] < until and self.outcome != "diverged"):
            raise OptstudyError(f"the last epoch is {epochs[-1]}; it must be {until}")
        if predictions is None or self.outcome == "running":
            return
        if self.predicted is None or len(self.predicted) != predictions or min(self.predicted) < 0:
            raise OptstudyError(f"predicted must be {predictions} classes, counted from 0")


@dataclass(frozen=True)
class CostToTarget:
    """The cost of a run until its test accuracy first reached its study's target."""

    epochs: float
    seconds: float
    gradient_work: float


@dataclass(frozen=True)
class Predictions(ArrayRecord):
    """Classes of the test images, true and predicted."""

    labels: Annotated[NDArray[np.int64], "n"]
    predicted: Annotated[NDArray[np.int64], "n"]
    classes: tuple[str, ...] = ()  # names of the classes, in order; empty if unknown

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Mask of the correctly classified images."""
        return np.equal(self.labels, self.predicted)


@dataclass(frozen=True)
class FinalRun:
    """One finished final run, as read back from MLflow."""

    run_id: str
    study: str
    optimizer: str
    config: str  # best, paper, default
    seed: int
    outcome: str  # completed or diverged
    train_accuracy: float  # fraction, from an exact sweep over the training images
    test_accuracy: float  # fraction
    paper_setting: bool  # whether model and data are the paper's, so that its Table I is comparable
    seconds: float  # of training, wall clock, while other workers ran
    gradient_work: float
    margin: float  # equivalence margin of its study: a difference of test accuracies, a fraction
    params: dict[str, str]  # hyperparameters, as MLflow's strings
    target: float | None = None  # test accuracy, a fraction, fixed with the study; None if the study has none
    cost_to_target: CostToTarget | None = None  # None if the target was not reached
    curvature: FinalCurvature | None = None  # at the end; None if not measured
    steps: int = 0  # of training; 0 if unknown
    step_seconds: float | None = None  # of one step, timed while the other workers idled; None if not timed
    files: str = ""  # URI of its artifacts
    separated: float | None = None  # share of the tracked steps whose ratio was separated; None if untracked
    finished_at: float | None = None  # Unix time
    provenance: Provenance = field(default_factory=Provenance)
    key: str = ""  # hash of everything that determines the run; "" if unknown
    metrics: Mapping[str, float] = field(default_factory=dict)  # final metrics without a field of their own
    curvature_problem: str = ""  # why the curvature at the end is missing; "" if it is not
    trace_problem: str = ""  # why the eigenvalues of the last steps are missing; "" if they are not
    # SHA-256 of its files in MLflow; None if it was logged before runs had checksums.
    checksums: Mapping[str, str] | None = None

    @property
    def id(self) -> RunId:
        """The run's identity; ``run_id`` is its ID in MLflow."""
        return RunId(self.study, self.optimizer, self.config, self.seed)

    @property
    def pace_seconds(self) -> float:
        """Seconds of training at the pace of the timed steps; wall-clock seconds if none were timed."""
        return self.seconds if self.step_seconds is None else self.steps * self.step_seconds
