"""The live objects of a run: model, loss and optimizer, restored from a `RunState` and captured in one."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from optstudy.errors import UsageError
from optstudy.optimizers import build_optimizer
from optstudy.records.plan import Plan
from optstudy.training.attributes import (
    capture_attributes,
    module_attributes,
    restore_attributes,
    restore_module_attributes,
)
from optstudy.training.generators import capture_generators, forked_generators, restore_generators
from optstudy.training.numerics import numerics
from optstudy.training.state import RunState
from optstudy.training.stored import Stored, load_in_place, map_tensors, same
from optstudy.workloads.datasets import load
from optstudy.workloads.models import Loss, build_model, load_loss


@dataclass
class LiveRun:
    """The model, loss and optimizer of a run."""

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    built: Mapping[str, Mapping[str, Stored]]  # attributes of the model's modules when it was built


@dataclass(frozen=True)
class Passes:
    """Passes over mini-batches, besides Hessian products."""

    steps: int
    gradients: int  # forward and backward passes
    losses: int  # forward passes alone

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.steps + other.steps, self.gradients + other.gradients, self.losses + other.losses)


@dataclass(frozen=True)
class StepResult:
    """The loss and the outputs before a step, and the passes that it took."""

    loss: Tensor
    outputs: Tensor
    passes: Passes
    twice: bool = False  # whether a gradient kept its graph, as a second derivative needs


def build(plan: Plan) -> LiveRun:
    """Build a run's objects, with weights drawn from torch's generator."""
    model = build_model(plan.model, load(plan.dataset)).to(plan.device)
    lazy = [name for name, p in model.named_parameters() if isinstance(p, UninitializedParameter)]
    if lazy:
        raise UsageError(
            f"model {plan.model!r} has parameters without a shape, such as {lazy[0]}; give the sizes of lazy modules,"
            " or call the model once before it is returned"
        )
    parameters = _trained(model)
    if not parameters:
        raise UsageError(f"model {plan.model!r} has no parameter to train")
    method = plan.method
    optimizer = build_optimizer(
        method.optimizer, method.arguments, parameters, plan.seed if method.seeded else None
    )
    built = module_attributes(model, _cloned)
    return LiveRun(model, load_loss(plan.loss), optimizer, built)


def restore(state: RunState, plan: Plan) -> LiveRun:
    """Restore a run's objects, and the global generators, from a state.

    Raises:
        UnsavableError: If the optimizer keeps something that its constructor does not make again.
    """
    live = build(plan)
    live.model.load_state_dict(state.model)
    # Tensors are cloned: load_state_dict would otherwise share them, and steps would change `state`.
    copy = _once_each(Tensor.clone)
    restore_module_attributes(live.model, state.modules, copy)
    load_in_place(live.optimizer, map_tensors(state.optimizer, copy))
    restore_attributes(live.optimizer, state.attributes, _trained(live.model), copy)
    restore_generators(state.generators, plan)
    return live


def capture(live: LiveRun, epoch: int, step: int, probes: dict[str, Any], *, diverged: bool) -> RunState:
    """Capture a run's objects, and the global generators, in a state.

    Raises:
        UnsavableError: If the optimizer keeps something that a state cannot hold.
    """
    copy = _once_each(_on_cpu)
    return RunState(
        epoch=epoch,
        step=step,
        model=map_tensors(dict(live.model.state_dict()), copy),
        optimizer=map_tensors(live.optimizer.state_dict(), copy),
        generators=capture_generators(next(live.model.parameters()).device),
        probes=probes,
        diverged=diverged,
        attributes=capture_attributes(live.optimizer, _trained(live.model), copy),
        modules=_changed(module_attributes(live.model, copy), live.built),
    )


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _cloned(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


def _changed(
    attributes: Mapping[str, Mapping[str, Stored]], built: Mapping[str, Mapping[str, Stored]]
) -> dict[str, dict[str, Stored]]:
    changed = {
        name: {key: value for key, value in own.items() if not same(value, built.get(name, {}).get(key))}
        for name, own in attributes.items()
    }
    return {name: own for name, own in changed.items() if own}


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()


def _once_each(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function that maps a tensor only once, so that a tensor in two places stays one."""
    mapped: dict[int, tuple[Tensor, Tensor]] = {}  # keeps the tensors, so that no identity is used again

    def map_once(tensor: Tensor) -> Tensor:
        if id(tensor) not in mapped:
            mapped[id(tensor)] = (tensor, function(tensor))
        return mapped[id(tensor)][1]

    return map_once


def _plain_step(live: LiveRun, inputs: Tensor, targets: Tensor) -> StepResult:
    outputs = live.model(inputs)
    value = live.loss(outputs, targets)
    value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    live.optimizer.step()
    live.optimizer.zero_grad(set_to_none=True)
    return StepResult(value.detach(), outputs.detach(), Passes(1, 1, 0))


def _closure_step(live: LiveRun, inputs: Tensor, targets: Tensor) -> StepResult:
    results: list[tuple[Tensor, Tensor]] = []
    backward_passes: list[bool] = []  # whether each keeps its graph

    def passed(_: Tensor) -> None:
        backward_passes.append(torch.is_grad_enabled())

    def closure() -> Tensor:
        outputs = live.model(inputs)
        value = live.loss(outputs, targets)
        results.append((value.detach(), outputs.detach()))
        if not value.requires_grad:
            return value
        # No second derivative passes through the copy, so a Hessian product is not counted as a gradient.
        returned = value.clone()
        returned.register_hook(passed)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return returned

    live.optimizer.step(closure)  # type: ignore[arg-type]  # typed for a float; torch itself accepts tensors
    live.optimizer.zero_grad(set_to_none=True)
    if not results:
        raise UsageError(
            'step does not call its closure; without needs = "closure" it gets gradients in .grad'
        )
    calls, gradients = len(results), len(backward_passes)
    return StepResult(*results[0], Passes(1, gradients, max(0, calls - gradients)), any(backward_passes))


STEP_FUNCTIONS = {"": _plain_step, "closure": _closure_step}


@contextlib.contextmanager
def isolated(plan: Plan) -> Iterator[None]:
    """Apply a run's numerical settings, and restore the global generators, settings and gradient mode afterwards."""
    with numerics(plan), forked_generators(torch.device(plan.device)), torch.enable_grad():
        yield
