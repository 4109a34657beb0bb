"""The live objects of a run: model, loss and optimizer, restored from a `RunState` and captured in one."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from optstudy.errors import UsageError
from optstudy.optimizers import build_optimizer
from optstudy.records.plan import Plan
from optstudy.training.numerics import numerics
from optstudy.training.state import RunState
from optstudy.workloads.datasets import load
from optstudy.workloads.models import Loss, build_model, load_loss


@dataclass
class LiveRun:
    """The model, loss and optimizer of a run."""

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer


def build(plan: Plan) -> LiveRun:
    """Build a run's objects, with weights drawn from torch's generator."""
    model = build_model(plan.model, load(plan.dataset)).to(plan.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError(f"model {plan.model!r} has no parameter to train")
    method = plan.method
    optimizer = build_optimizer(
        method.optimizer, method.arguments, parameters, plan.seed if method.seeded else None
    )
    return LiveRun(model, load_loss(plan.loss), optimizer)


def restore(state: RunState, plan: Plan) -> LiveRun:
    """Restore a run's objects, and torch's generators, from a state."""
    live = build(plan)
    live.model.load_state_dict(state.model)
    # Tensors are cloned: load_state_dict would otherwise share them, and steps would change `state`.
    live.optimizer.load_state_dict(_mapped(state.optimizer, Tensor.clone))
    torch.set_rng_state(state.generators["cpu"])
    if "cuda" in state.generators:
        torch.cuda.set_rng_state(state.generators["cuda"], plan.device)
    return live


def capture(live: LiveRun, epoch: int, step: int, probes: dict[str, Any], *, diverged: bool) -> RunState:
    """Capture a run's objects, and torch's generators, in a state."""
    device = next(live.model.parameters()).device
    generators = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(device)
    return RunState(
        epoch=epoch,
        step=step,
        model=_mapped(dict(live.model.state_dict()), _on_cpu),
        optimizer=_mapped(live.optimizer.state_dict(), _on_cpu),
        generators=generators,
        probes=probes,
        diverged=diverged,
    )


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, function) for item in value)
    return value


def _plain_step(live: LiveRun, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    outputs = live.model(inputs)
    value = live.loss(outputs, targets)
    value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    live.optimizer.step()
    live.optimizer.zero_grad(set_to_none=True)
    return value.detach(), outputs.detach()


def _closure_step(live: LiveRun, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    results: list[tuple[Tensor, Tensor]] = []

    def closure() -> Tensor:
        outputs = live.model(inputs)
        value = live.loss(outputs, targets)
        results.append((value.detach(), outputs.detach()))
        return value

    live.optimizer.step(closure)  # type: ignore[arg-type]  # typed for a float; torch itself accepts tensors
    return results[0]


STEP_FUNCTIONS = {"": _plain_step, "closure": _closure_step}


@contextlib.contextmanager
def isolated(plan: Plan) -> Iterator[None]:
    """Apply a run's numerical settings, and restore torch's generators, settings and gradient mode afterwards."""
    with numerics(plan), forked_generators(torch.device(plan.device)), torch.enable_grad():
        yield


def forked_generators(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context that restores torch's generators on exit."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def seed_generators(plan: Plan) -> None:
    """Seed the generators of the CPU and of the run's device; `torch.manual_seed` would seed every device."""
    torch.default_generator.manual_seed(plan.seed)
    if torch.device(plan.device).type == "cuda":
        with torch.cuda.device(plan.device):
            torch.cuda.manual_seed(plan.seed)
