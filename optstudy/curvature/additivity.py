"""Prove by questions to a loss that its batches can be combined: that it is a mean with a denominator, or a sum."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from optstudy.curvature.containers import count_examples, map_tensors, tensors_in
from optstudy.curvature.losses import Denominator, batch_weight
from optstudy.curvature.objective import Objective, supports
from optstudy.curvature.twice import dense

# Largest difference between a loss and the sum of its parts, relative to the parts. Models may compute in float32
# inside, whatever the precision of their inputs.
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-4}
DISTANCE = 0.1  # standard deviation of the weights at which a loss of zero is asked again
ADVICE = (
    "give a denominator, a function that maps the targets of a batch to the divisor of its mean loss: the argument"
    " denominator=, or the attribute `denominator` of the loss"
)


def prove_denominator(
    objective: Objective, candidates: Sequence[Denominator | None], *, every: bool = True
) -> Objective:
    r"""Return an objective over batches with the denominator, among some, that its loss is consistent with.

    If :math:`d` is the denominator of a mean, or 1 for a sum, then :math:`d(B) L(B)` and its gradient are additive:
    :math:`d(P \cup Q) L(P \cup Q) = d(P) L(P) + d(Q) L(Q)` for any parts of the data. This is asked of the two halves
    of each batch, and of the first half of each batch with the second half of the next, which relates each batch to the
    others, whatever their sizes, classes and ignored targets. The computations are in float64 if possible. The cost is
    that of three gradients over the data, about that of one product with the Hessian.

    Args:
        objective: Objective over batches.
        candidates: Denominators; None for a sum. If there is only one, it was given, and parts that the model or the
            loss does not accept are skipped.
        every: Whether to ask all batches; otherwise values alone, of as many as decide between the candidates.

    Raises:
        ValueError: If no candidate is consistent with the loss, or parts of several batches cannot be joined.
    """
    asked = _in_double(objective)
    with torch.set_grad_enabled(every):
        remaining = _consistent(asked, candidates, every=every)
        if len(remaining) > 1:  # such as a loss that is zero on all data
            remaining = _consistent(_at_other_weights(asked), remaining, every=every)
    return dataclasses.replace(objective, denominator=remaining[0])


def _consistent(
    objective: Objective, candidates: Sequence[Denominator | None], *, every: bool
) -> list[Denominator | None]:
    """Return the candidates that are consistent with the loss; at least one."""
    remaining = list(candidates)
    for where, parts in _questions(objective):
        try:
            whole = _joined(parts)
            finite = all(bool(result.isfinite().all()) for result in whole.loss)
            _ = [part.loss for part in parts]
        except Exception as error:  # the user's model and loss may raise anything
            if len(candidates) == 1:
                continue
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ValueError(
                f"the loss cannot be computed on parts of {where} ({reason}), so it is not known to be a mean or a sum"
                f" over examples; {ADVICE}"
            ) from error
        if not finite:  # all targets are ignored, or the model has diverged
            continue
        remaining = [candidate for candidate in remaining if _fits(candidate, whole, parts)]
        if not remaining:
            raise ValueError(_contradiction(candidates, where))
        if not every and len(remaining) == 1:
            break
    return remaining


def _contradiction(candidates: Sequence[Denominator | None], where: str) -> str:
    if len(candidates) > 1:
        return (
            f"the loss is neither the mean nor the sum over the examples of {where}, so batches cannot be combined;"
            f" {ADVICE}"
        )
    if candidates[0] is None:
        return f"the loss has denominator = None, but is not a sum over the examples of {where}; {ADVICE}"
    return (
        f"the denominator does not fit the loss: times the denominator, the loss of parts of {where} does not add up to"
        " that of all; it must be what the mean loss is divided by, which adds up over examples"
    )


@dataclass(frozen=True)
class _Part:
    """Examples of one batch or several, and their loss."""

    objective: Objective
    inputs: Any
    targets: Any

    @property
    def count(self) -> int:
        return count_examples(self.targets)

    @cached_property
    def loss(self) -> tuple[Tensor, Tensor]:
        """The value and the gradient of the loss, float64; the gradient is zero in no-grad mode."""
        leaves = self.objective.leaves()
        value = self.objective.value(leaves, self.inputs, self.targets)
        slopes = (
            self.objective.holding(leaves, lambda: torch.autograd.grad(value, leaves, materialize_grads=True))
            if value.requires_grad
            else [torch.zeros_like(leaf) for leaf in leaves]
        )
        return value.detach().double(), torch.cat([slope.flatten() for slope in dense(slopes)]).double()

    def halves(self) -> "list[_Part]":
        """Return the first and the second half; itself if it is a single example."""
        half = (self.count + 1) // 2
        parts = [slice(half), slice(half, None)] if half < self.count else [slice(None)]
        return [self.cut(part) for part in parts]

    def cut(self, part: slice) -> "_Part":
        """Return some of the examples."""
        inputs, targets = map_tensors(
            (self.inputs, self.targets), lambda tensor: tensor[part] if self.has_examples(tensor) else tensor
        )
        return _Part(self.objective, inputs, targets)

    def has_examples(self, tensor: Tensor) -> bool:
        """Whether a tensor has a row for each example, rather than serving all of them."""
        return tensor.ndim > 0 and len(tensor) == self.count

    def tensors(self) -> list[Tensor]:
        """Return the tensors of the inputs and targets."""
        return tensors_in((self.inputs, self.targets))


def first_examples(objective: Objective, count: int) -> Objective:
    """Return the objective of the first examples of the first batch."""
    inputs, targets, _ = next(objective.batches())
    part = _Part(objective, inputs, targets)
    cut = part.cut(slice(min(count, part.count)))
    return dataclasses.replace(objective, data=(cut.inputs, cut.targets), one_batch=True, first_pass=None)


def in_slices(objective: Objective, count: int) -> Objective:
    """Return the objective of a single batch over at most ``count`` slices of it.

    Raises:
        ValueError: If the losses of the slices do not add up to that of the batch.
    """
    inputs, targets, _ = next(objective.batches())
    whole = _Part(objective, inputs, targets)
    size = math.ceil(whole.count / count)
    cuts = [whole.cut(slice(start, start + size)) for start in range(0, whole.count, size)]
    leaves = objective.leaves()
    with torch.no_grad():
        loss, *terms = (
            weight * float(objective.value(leaves, part.inputs, part.targets)) if weight else 0.0
            for part in (whole, *cuts)
            for weight in (batch_weight(objective.denominator, part.targets),)
        )
    if not abs(loss - math.fsum(terms)) <= TOLERANCES[objective.dtype] * math.fsum(map(abs, terms)):
        raise ValueError("the loss of a batch is not that of its slices combined")
    data = [(cut.inputs, cut.targets) for cut in cuts]
    return dataclasses.replace(objective, data=data, one_batch=len(data) == 1, first_pass=None)


def _questions(objective: Objective) -> Iterator[tuple[str, list[_Part]]]:
    """Yield parts of the data whose losses must add up, and where they are from."""
    batches = (
        (number, _Part(objective, inputs, targets).halves())
        for number, (inputs, targets, _) in enumerate(objective.batches(), 1)
        if count_examples(targets)
    )
    if (start := next(batches, None)) is None:
        return
    yield f"batch {start[0]}", start[1]
    for (first, before), (second, after) in itertools.pairwise(itertools.chain([start], batches)):
        yield f"batch {second}", after
        yield f"batches {first} and {second}", [before[0], after[-1]]


def _joined(parts: Sequence[_Part]) -> _Part:
    """Join parts into one batch.

    Raises:
        ValueError: If they differ in more than the number of examples.
    """
    tensors = [part.tensors() for part in parts]
    if len({len(found) for found in tensors}) > 1:
        raise ValueError("the batches have different structures, and cannot be joined")
    rows = iter([_concatenated(parts, together) for together in zip(*tensors, strict=True)])
    inputs, targets = map_tensors((parts[0].inputs, parts[0].targets), lambda _: next(rows))
    return _Part(parts[0].objective, inputs, targets)


def _concatenated(parts: Sequence[_Part], tensors: Sequence[Tensor]) -> Tensor:
    if all(part.has_examples(tensor) for part, tensor in zip(parts, tensors, strict=True)):
        if len({tensor.shape[1:] for tensor in tensors}) > 1:
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise ValueError(f"tensors of shapes {shapes} cannot be joined")
        return torch.cat(list(tensors))
    if all(torch.equal(tensors[0], tensor) for tensor in tensors):
        return tensors[0]
    raise ValueError("the batches share a tensor that differs between them, and cannot be joined")


def _fits(denominator: Denominator | None, whole: _Part, parts: Sequence[_Part]) -> bool:
    """Whether the loss of all examples is that of the parts combined."""
    total, *weights = (batch_weight(denominator, part.targets) for part in (whole, *parts))
    tolerance = TOLERANCES[whole.objective.dtype]
    if denominator is not None and not abs(total - sum(weights)) <= tolerance * abs(total):
        return False
    for index, result in enumerate(whole.loss):
        terms = [
            weight * part.loss[index] if weight else torch.zeros_like(result)
            for weight, part in zip(weights, parts, strict=True)
        ]
        error = (total * result - sum(terms)).norm()
        # Not of their sum, in which the digits of gradients may cancel.
        if not error <= tolerance * sum(term.norm() for term in terms):
            return False
    return True


def _in_double(objective: Objective) -> Objective:
    """Return an objective in float64, unless its device, model or loss does not support it."""
    if not supports(objective.device, torch.float64):
        return objective
    double = objective.in_dtype(torch.float64)
    parameters = [double.tensors[name] for name in double.names]
    try:
        with torch.no_grad():
            for inputs, targets, _ in double.batches():
                double.value(parameters, inputs, targets)
                break
    except TypeError:
        return objective
    return double


def _at_other_weights(objective: Objective) -> Objective:
    generator = torch.Generator().manual_seed(0)

    def moved(tensor: Tensor) -> Tensor:
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        return tensor + DISTANCE * noise.to(tensor.device, tensor.dtype)

    tensors = {
        name: moved(tensor) if name in objective.names else tensor
        for name, tensor in objective.tensors.items()
    }
    return dataclasses.replace(objective, tensors=tensors)
