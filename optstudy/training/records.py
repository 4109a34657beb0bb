"""A run as a value: its plan, its state between two epochs, and what it leaves behind."""

import dataclasses
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from optstudy.data import Split
from optstudy.models import Loss

Outcome = Literal["running", "completed", "diverged", "failed"]


@dataclass(frozen=True)
class Method:
    """How a run updates its parameters: an optimizer's class, what it is given, and what its step takes."""

    optimizer: str  # class path
    arguments: Mapping[str, Any]
    needs: str = ""  # "closure": step takes a function that returns the loss; "": backward and step
    seeded: bool = False  # the constructor takes `seed`, and gets the run's
    hessian_products: int = 0  # spent by one step


@dataclass(frozen=True)
class Trace:
    """Which of a run's steps have their curvature measured, and on how many images."""

    samples: int | None  # training images; None for all
    last: int | None  # steps at the end of the run; None for all steps, 0 for none
    every: int = 1  # steps from one to the next
    seed: int = 0  # of the choice of images


@dataclass(frozen=True)
class Plan:
    """Everything that determines the numbers of one run."""

    dataset: str
    split: Split
    model: str
    loss: str
    method: Method
    epochs: int
    sweep_epochs: tuple[int, ...]  # after these, an exact sweep over the training set
    batch_size: int
    seed: int  # of the initial weights and the order of the batches: the same for every optimizer
    device: str = "cpu"
    threads: int = 1
    trace: Trace | None = None  # None where no curvature is measured
    deterministic: bool = False  # by algorithms that give the same bits each time, on a GPU too

    @property
    def references(self) -> tuple[str, ...]:
        """What may be the user's own code."""
        return self.dataset, self.model, self.loss, self.method.optimizer

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Plan":
        """Build a plan from `dataclasses.asdict` of one, as it comes back from JSON."""
        trace = content["trace"]
        return cls(
            **{
                **content,
                "split": Split(**content["split"]),
                "method": Method(**content["method"]),
                "sweep_epochs": tuple(content["sweep_epochs"]),
                "trace": Trace(**trace) if trace else None,
            }
        )


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch of training left behind. A number that is not finite is None."""

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
class RunState:
    """A run between two epochs, as plain tensors (on the CPU) and numbers."""

    epoch: int
    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    generators: dict[str, Tensor]  # torch's default ones by device type; dropout reads them
    probes: dict[str, Any]
    diverged: bool = False

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` gives back the same bits."""
        buffer = io.BytesIO()
        torch.save({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "RunState":
        """Read what `to_bytes` wrote; nothing but tensors and plain values is accepted."""
        return cls(**torch.load(io.BytesIO(data), weights_only=True, map_location="cpu"))


@dataclass(frozen=True)
class Moment:
    """What a probe may look at: a run just before one of its steps."""

    step: int  # counted from 0 over the whole run
    last_of_epoch: bool
    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    inputs: Tensor  # the mini-batch of the step, as the model takes it
    targets: Tensor


class Probe(Protocol):
    """Watches a run, and leaves parameters, gradients, mode, buffers and generators exactly as found."""

    @property
    def name(self) -> str:
        """Under which its state is kept; a run's probes have different names."""

    def wants(self, moment: Moment) -> bool:
        """Whether to observe this step."""

    def observe(self, moment: Moment, state: Any) -> tuple[Any, Mapping[str, float | str]]:
        """Return the probe's next state (plain tensors and numbers; the first is None) and what it saw."""


@dataclass(frozen=True)
class Observation:
    """What a probe saw at one step."""

    probe: str
    step: int
    values: Mapping[str, float | str | None]  # a number that is not finite is None


@dataclass(frozen=True)
class History:
    """What `advance` recorded on its way."""

    epochs: tuple[EpochRecord, ...]
    observations: tuple[Observation, ...]
    predicted: Tensor | None  # (n,) classes of the held-out images, once the run has ended


@dataclass(frozen=True)
class Rung:
    """Some epochs of one run, as a worker returns them and as they are kept on disk."""

    epochs: tuple[EpochRecord, ...]
    observations: tuple[Observation, ...]
    outcome: Outcome
    predicted: tuple[int, ...] | None = None  # classes of the held-out images, once the run has ended
    problem: str = ""  # what went wrong, where the outcome is failed
    machine: Mapping[str, str] = dataclasses.field(default_factory=dict)  # that it was computed on


def outcome(state: RunState, plan: Plan) -> Outcome:
    """Tell how a run stands."""
    if state.diverged:
        return "diverged"
    return "completed" if state.epoch == plan.epochs else "running"


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Mini-batches in an epoch; the last may be short."""
    return math.ceil(images / batch_size)
