"""A run as a value: its plan, its state between two epochs, and what it leaves behind."""

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
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


def outcome(state: RunState, plan: Plan) -> Outcome:
    """Tell how a run stands."""
    if state.diverged:
        return "diverged"
    return "completed" if state.epoch == plan.epochs else "running"
