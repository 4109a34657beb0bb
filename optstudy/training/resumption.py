"""Prove that a run that is stored and restored continues as it would have without a break."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from optstudy.errors import UsageError, one_line
from optstudy.optimizers import OptimizerError
from optstudy.records.plan import Method, Plan
from optstudy.training.advance import start
from optstudy.training.fit import MiniBatch
from optstudy.training.live import STEP_FUNCTIONS, LiveRun, Passes, StepResult, capture, restore
from optstudy.training.state import RunState
from optstudy.training.stored import PLAIN, same
from optstudy.training.timing import synchronize
from optstudy.workloads.user_code import describe_exception

CLOSURE_CONVENTION = (
    'with needs = "closure" the closure returns the loss and does not call backward; torch\'s own convention, a closure'
    " that calls backward, is not supported yet"
)


class NotResumedError(UsageError):
    """A run does not continue from its stored state as it would have without a break."""


@dataclass(frozen=True)
class Resumption:
    """A run that continued from its stored state to the bit."""

    step_seconds: float  # median, on a full mini-batch
    end: RunState
    passes: Passes  # of all steps
    twice: bool  # whether a step kept the graph of a gradient, as a second derivative needs
    beyond_state_dicts: bool  # whether the state needs more than the state_dicts and torch's generators


def prove_resumption(plan: Plan, state: RunState, batches: Sequence[MiniBatch]) -> Resumption:
    """Take one step on each mini-batch, once without and once with a break in the middle.

    Raises:
        UsageError: If the run does not continue after the break as it would have without, naming what differs.
    """
    try:
        return _resumed(plan, state, batches)
    except NotResumedError as error:
        raise _with_culprit(plan, batches, error) from error


def repeats_bits(plan: Plan) -> bool:
    """Whether a run's device computes the same bits each time."""
    return plan.deterministic or torch.device(plan.device).type == "cpu"


def take_step(plan: Plan, live: LiveRun, batch: MiniBatch) -> tuple[StepResult, float]:
    """Take one step in train mode; return its result and its seconds."""
    live.model.train()
    started = time.perf_counter()
    try:
        result = STEP_FUNCTIONS[plan.method.needs](live, batch.x, batch.y)
    except Exception as error:
        if not plan.method.needs and isinstance(error, TypeError) and "closure" in str(error):
            raise OptimizerError(
                f'{plan.method.optimizer} takes a closure; give needs = "closure" if it differentiates the loss itself'
                " (a closure that is to call backward is not supported yet)"
            ) from error
        if plan.method.needs != "closure" or any(p.grad is not None for p in live.model.parameters()):
            raise
        reason = describe_exception(error, plan.method.optimizer)
        raise OptimizerError(
            f"a step of {plan.method.optimizer} fails at {reason}; {CLOSURE_CONVENTION}"
        ) from error
    synchronize(plan)
    return result, time.perf_counter() - started


def _resumed(plan: Plan, state: RunState, batches: Sequence[MiniBatch]) -> Resumption:
    half = len(batches) // 2
    live = restore(state, plan)
    steps = [take_step(plan, live, batch) for batch in batches]
    straight = _captured(plan, live)
    live = restore(state, plan)
    for batch in batches[:half]:
        take_step(plan, live, batch)
    stored = _from_file(plan, _captured(plan, live))
    live = restore(stored, plan)
    _check_same(plan, stored, _captured(plan, live), "right after it is stored and restored")
    for batch in batches[half:]:
        take_step(plan, live, batch)
    resumed = _captured(plan, live)
    _check_same(plan, straight, resumed, f"{half} steps after it is stored and restored", attributes=False)
    full = [
        seconds for (_, seconds), batch in zip(steps, batches, strict=True) if len(batch.y) == plan.batch_size
    ]
    return Resumption(
        step_seconds=median(full[1:] or full),
        end=straight,
        passes=sum((result.passes for result, _ in steps), Passes(0, 0, 0)),
        twice=any(result.twice for result, _ in steps),
        beyond_state_dicts=_needs_more(plan, stored, batches[half:], straight),
    )


def _needs_more(plan: Plan, stored: RunState, rest: Sequence[MiniBatch], straight: RunState) -> bool:
    """Whether the rest of the steps end elsewhere if only the state_dicts and torch's generators are restored."""
    kept = {name: stored.generators[name] for name in stored.generators.keys() - {"python", "numpy"}}
    bare = replace(stored, attributes={}, modules={}, generators=kept)
    restored = _captured(plan, restore(bare, plan))
    parts = ("attributes", "modules", "generators")
    if all(same(getattr(restored, part), getattr(stored, part)) for part in parts):
        return False
    live = restore(bare, plan)
    for batch in rest:
        take_step(plan, live, batch)
    return not same(_captured(plan, live).model, straight.model)


def _captured(plan: Plan, live: LiveRun) -> RunState:
    try:
        return capture(live, 0, 0, {}, diverged=False)
    except OptimizerError:
        raise
    except Exception as error:
        raise OptimizerError(
            f"the state_dict of {plan.method.optimizer} fails with {one_line(error)}"
        ) from error


def _from_file(plan: Plan, state: RunState) -> RunState:
    """Return a state after it has gone through a file."""
    if lost := [*_lost(state.model, "")]:
        raise UsageError(
            f"the state_dict of model {plan.model!r} has {lost[0]}, which does not survive a file; keep tensors,"
            " numbers and containers of them"
        )
    if lost := [*_lost(state.optimizer, "")]:
        raise OptimizerError(
            f"the state_dict of {plan.method.optimizer} has {lost[0]}, which does not survive a file; keep tensors,"
            " numbers and containers of them"
        )
    return RunState.from_bytes(state.to_bytes())


def _lost(value: Any, where: str) -> Iterable[str]:
    """Name the parts of a `state_dict` that a file of tensors and plain values cannot hold."""
    if type(value) is dict:
        for key, item in value.items():
            yield from _lost(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for index, item in enumerate(value):
            yield from _lost(item, f"{where}[{index}]")
    elif type(value) not in (*PLAIN, Tensor, nn.Parameter):
        yield f"an object of type {type(value).__name__} at {where}"


def _check_same(plan: Plan, a: RunState, b: RunState, when: str, *, attributes: bool = True) -> None:
    """Raise unless two states have the same bits; where the device does not repeat them, nearly the same."""
    exact = repeats_bits(plan)
    pairs: dict[str, tuple[Any, Any]] = {
        f"the weights {name!r}": (tensor, b.model[name]) for name, tensor in a.model.items()
    }
    if exact:
        pairs |= {
            f"the optimizer's {key}": (value, b.optimizer.get(key)) for key, value in a.optimizer.items()
        }
    if attributes:
        pairs["the attributes of modules"] = (a.modules, b.modules)
        pairs |= {
            f"its attribute {key}": (value, b.attributes.get(key)) for key, value in a.attributes.items()
        }
    different = [name for name, pair in pairs.items() if not (same(*pair) or (not exact and _near(*pair)))]
    if different:
        raise NotResumedError(f"{different[0]} of a run differ {when}")


def _with_culprit(plan: Plan, batches: Sequence[MiniBatch], error: NotResumedError) -> UsageError:
    """Tell an optimizer that does not resume from a model that does not resume with any optimizer."""
    plain = replace(plan, method=Method("torch.optim.SGD", {"lr": 1e-3}))
    try:
        _resumed(plain, start(plain), batches)
    except NotResumedError:
        return UsageError(
            f"model {plan.model!r} with loss {plan.loss!r} does not resume: {error}; what a forward pass needs must be"
            " in parameters, buffers or numbers of its modules, or in the global generators"
        )
    return OptimizerError(
        f"{plan.method.optimizer} does not resume: {error}; what a step needs must be in the state_dict or in"
        " attributes of the optimizer"
    )


def _near(a: Any, b: Any) -> bool:
    return (
        isinstance(a, Tensor) and a.is_floating_point() and torch.allclose(a, b, 1e-2, 1e-3, equal_nan=True)
    )
