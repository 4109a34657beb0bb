"""The state of a run between two epochs, and the interface of probes."""

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from optstudy.records.plan import Plan
from optstudy.records.run import Outcome
from optstudy.workloads.models import Loss


@dataclass(frozen=True)
class RunState:
    """A run between two epochs, as plain tensors (on the CPU) and numbers."""

    epoch: int
    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    generators: dict[
        str, Any
    ]  # states of torch's default generators by device type, of Python's and of numpy's
    probes: dict[str, Any]
    diverged: bool = False
    attributes: dict[str, Any] = field(
        default_factory=dict
    )  # of the optimizer, as `capture_attributes` returns
    modules: dict[str, dict[str, Any]] = field(default_factory=dict)  # changed attributes, by module

    def to_bytes(self) -> bytes:
        """Serialise the state; `from_bytes` restores the same bits."""
        buffer = io.BytesIO()
        torch.save({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "RunState":
        """Restore a state from the output of `to_bytes`; only tensors and plain values are accepted."""
        return cls(**torch.load(io.BytesIO(data), weights_only=True, map_location="cpu"))


@dataclass(frozen=True)
class StepContext:
    """The state of a run just before a step, as passed to probes."""

    step: int  # counted from 0 over the whole run
    last_of_epoch: bool
    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    inputs: Tensor  # the mini-batch of the step, prepared for the model
    targets: Tensor


class Probe(Protocol):
    """Observes a run, without changing its parameters, gradients, mode, buffers or generators."""

    @property
    def name(self) -> str:
        """Key of the probe's state, unique among the probes of a run."""

    def is_due(self, context: StepContext) -> bool:
        """Whether the probe observes this step."""

    def observe(self, context: StepContext, state: Any) -> tuple[Any, Mapping[str, float | str]]:
        """Return the probe's next state (plain tensors and numbers; None at first) and the measured values."""


def outcome(state: RunState, plan: Plan) -> Outcome:
    """Return the outcome of a run so far."""
    if state.diverged:
        return "diverged"
    return "completed" if state.epoch == plan.epochs else "running"
