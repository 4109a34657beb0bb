"""Check that data, model and loss are the same at every pass."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from optstudy.curvature.containers import map_tensors, tensors_in
from optstudy.curvature.generators import model_state
from optstudy.curvature.objective import Objective
from optstudy.curvature.twice import explained_checkpoint, refused_constants

OTHER_WEIGHTS = 1.1  # factor
# Largest difference of the same outputs, in rounding errors of the largest: GPUs may add in an order that varies.
MAX_ROUNDING_ON_CPU, MAX_ROUNDING = 64, 2048
REASON = "so the loss is not a function of the weights alone"
ADVICE = f"{REASON}; it draws random numbers or keeps state between calls"


def digest(value: Any) -> bytes:
    """Return a digest of the bits of the tensors in nested dicts, tuples and lists."""
    found = hashlib.blake2b(digest_size=16)

    def add(tensor: Tensor) -> Tensor:
        for part in tensor.unbind() if tensor.is_nested else [tensor]:
            plain = _strided(part.detach()).cpu().resolve_conj().resolve_neg().contiguous()
            found.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
            found.update(plain.flatten().view(torch.uint8).numpy().data)
        return tensor

    map_tensors(value, add)
    return found.digest()


def check_repeated(objective: Objective, first_pass: Sequence[tuple[bytes, bytes]]) -> None:
    """Compare a second pass over the data with the first, and a second call of model and loss with the first.

    Data are compared to the bit, outputs and losses up to rounding, since some operations on GPUs add in an order that
    varies. The first batch has been called twice by `check_first_calls`. The cost is that of two forward passes.

    Args:
        objective: The objective.
        first_pass: Digests of the inputs and of the targets of each batch of the first pass.

    Raises:
        ValueError: If they differ, naming the batch, or the first module whose outputs do.
    """
    called = False
    for inputs, targets, weight in _same_batches(objective, first_pass, "the second"):
        if weight and called:
            _check_calls(objective, inputs, targets)
        called = called or weight > 0


def check_unchanged(objective: Objective) -> None:
    """Compare a last pass over the data with the first, and the loss of the first batch with that of the first call.

    A model, a loss or data that keep state may begin to differ after any number of calls, so an estimate ends with
    this. The cost is that of one forward pass of one batch.

    Raises:
        ValueError: If they differ, naming the batch if it is the data.
    """
    first = objective.first_pass
    if first is None:
        return
    called = False
    for inputs, targets, weight in _same_batches(objective, first.digests, "a later one"):
        if weight and not called:
            called = True
            with torch.enable_grad():  # as at the first call: attention has another kernel without gradients
                value = objective.value(objective.leaves(), inputs, targets).detach()
            if not _same(first.loss, value):
                raise ValueError(
                    f"the model or the loss returns another value at a later call than at the first, {ADVICE}"
                )


def _same_batches(
    objective: Objective, first_pass: Sequence[tuple[bytes, bytes]], which: str
) -> Iterator[tuple[Any, Any, float]]:
    """Yield the batches of another pass over the data; raises ValueError if they differ from the first."""
    count = 0
    for inputs, targets, weight in objective.batches():
        count += 1
        found = (digest(inputs), digest(targets))
        if count > len(first_pass):
            break
        for what, before, after in zip(("inputs", "targets"), first_pass[count - 1], found, strict=True):
            if before != after:
                raise ValueError(
                    f"the data differ between two passes: batch {count} has other {what} at {which}; data may draw"
                    " from the global generators of torch, Python and NumPy, which each pass sets to the same state,"
                    " but not from a generator of its own, unless each pass starts it anew"
                )
        yield inputs, targets, weight
    if count != len(first_pass):
        batches = f"more than {len(first_pass)}" if count > len(first_pass) else count
        raise ValueError(
            f"the data differ between two passes: there are {len(first_pass)} batches at the first and {batches} at"
            f" {which}; each pass must yield the same"
        )


@torch.no_grad()
def _check_calls(objective: Objective, inputs: Any, targets: Any) -> None:
    parameters = [objective.tensors[name] for name in objective.names]
    before = digest(inputs)
    first, second = (objective.outputs(parameters, inputs) for _ in range(2))
    losses = [objective.output_loss(outputs, targets) for outputs in (first, first, second)]
    if not (_same(first, second) and _same(losses[0], losses[1]) and _same(losses[0], losses[2])):
        raise ValueError(_difference(objective, inputs, targets, before))


def check_first_calls(objective: Objective, inputs: Any, targets: Any) -> tuple[Any, list[Tensor]]:
    """Return the loss of a batch and the parameters as its leaves, after checks at its first call and a second.

    Raises:
        ValueError: If the model or the loss draws random numbers, or keeps tensors from the first call.
    """
    owners = [
        *objective.model.modules(),
        *([objective.loss] if isinstance(objective.loss, nn.Module) else []),
    ]
    leaves = [objective.leaves(), objective.leaves()]
    unchanged, before = digest(inputs), model_state(objective.device, owners)
    with torch.enable_grad(), refused_constants():
        outputs, value = objective.outputs_and_value(leaves[0], inputs, targets)
    if model_state(objective.device, owners) != before:
        module = _drawing_module(objective, inputs)
        where = f": {module} does" if module else ""
        raise ValueError(f"the model or the loss draws random numbers, {REASON}{where}")
    if isinstance(value, Tensor) and value.requires_grad and value.numel() == 1:
        with torch.enable_grad():
            other_outputs, again = objective.outputs_and_value(leaves[1], inputs, targets)
        if not (_same(outputs, other_outputs) and _same(value, again)):
            raise ValueError(_difference(objective, inputs, targets, unchanged))
        for name, *used in zip(
            objective.names,
            _used(objective, value, leaves[0]),
            _used(objective, again, leaves[1]),
            strict=True,
        ):
            if used[0] != used[1]:
                raise ValueError(
                    f"the loss depends on {name} at the first call or at the second, but not at both, {REASON}; the"
                    " model keeps tensors between calls"
                )
    return value, leaves[0]


def _used(objective: Objective, value: Tensor, leaves: Sequence[Tensor]) -> list[bool]:
    if not value.requires_grad:
        return [False] * len(leaves)
    with explained_checkpoint():
        gradients = objective.holding(
            leaves, lambda: torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True)
        )
    return [gradient is not None for gradient in gradients]


def _same(first: Any, second: Any) -> bool:
    """Whether the tensors of two results agree up to rounding."""
    ones, others = tensors_in(first), tensors_in(second)
    return len(ones) == len(others) and all(itertools.starmap(_close, zip(ones, others, strict=True)))


def _strided(tensor: Tensor) -> Tensor:
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    one, other = _strided(one), _strided(other)
    if torch.equal(one, other):
        return True
    if not (one.is_floating_point() or one.is_complex()):
        return False
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()):
        return False
    one, other = one[finite], other[finite]
    if not len(one):
        return True
    rounding = MAX_ROUNDING_ON_CPU if one.device.type == "cpu" else MAX_ROUNDING
    scale = rounding * torch.finfo(one.dtype).eps * one.abs().max()
    return bool((one - other).abs().max() <= scale)


@dataclass(frozen=True)
class _Call:
    """A call of a module during a forward pass."""

    name: str  # for messages
    inputs: bytes
    outputs: list[Tensor]
    drew: bool  # whether the state of a generator changed


def _calls(objective: Objective, inputs: Any) -> list[_Call]:
    """Run the model once, and return the calls of its modules in the order in which they ended."""
    calls: list[_Call] = []
    started: list[tuple[bytes, list[bytes]]] = []
    modules = list(objective.model.modules())

    def before(_: nn.Module, arguments: Any, keywords: Any) -> None:
        started.append((digest((arguments, keywords)), model_state(objective.device, modules)))

    def after(module: nn.Module, _: Any, __: Any, outputs: Any) -> None:
        arguments, state = started.pop()
        drew = state != model_state(objective.device, modules)
        calls.append(
            _Call(names[module], arguments, [tensor.clone() for tensor in tensors_in(outputs)], drew)
        )

    names = {module: describe(name, module) for name, module in objective.model.named_modules()}
    handles = [module.register_forward_pre_hook(before, with_kwargs=True) for module in modules]
    handles += [module.register_forward_hook(after, with_kwargs=True) for module in modules]
    try:
        objective.outputs([objective.tensors[name] for name in objective.names], inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def describe(name: str, module: nn.Module) -> str:
    """Describe a module for a message."""
    kind = type(module).__name__
    return f"module {name!r} ({kind})" if name else f"the model ({kind})"


@torch.no_grad()
def _difference(objective: Objective, inputs: Any, targets: Any, before: bytes) -> str:
    """Describe what differs between two calls for the same inputs, whose digest was ``before``."""
    first = _calls(objective, inputs)
    # In between, what is kept between calls changes with the weights.
    objective.outputs([OTHER_WEIGHTS * objective.tensors[name] for name in objective.names], inputs)
    for one, other in zip(first, _calls(objective, inputs), strict=False):
        if one.inputs == other.inputs and not _same(one.outputs, other.outputs):
            return f"{one.name} returns other outputs for the same inputs at a second call, {ADVICE}"
    outputs = objective.outputs([objective.tensors[name] for name in objective.names], inputs)
    if not _same(*(objective.output_loss(outputs, targets) for _ in range(2))):
        return f"the loss returns another value for the same outputs at a second call, {ADVICE}"
    if digest(inputs) != before:
        return f"the model changes its inputs in place, and returns other outputs for them, {REASON}"
    return f"the model or the loss returns another value at a second call, {ADVICE}"


@torch.no_grad()
def _drawing_module(objective: Objective, inputs: Any) -> str:
    """Describe the first module that draws random numbers; empty if none does."""
    return next((call.name for call in _calls(objective, inputs) if call.drew), "")
