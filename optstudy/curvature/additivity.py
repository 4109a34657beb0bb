"""Detect whether a custom loss is a mean over examples, a sum, or neither, so that batches can be combined."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from optstudy.curvature.objective import Objective

TOLERANCE = 1e-4  # relative, between a batch's loss and that of its halves; float32 errors are a tenth of it


def infer_denominator(at: Objective) -> Objective:
    """Return an objective over several batches with the denominator that its custom loss uses.

    The loss of a batch is compared with the losses of its halves: a mean is their weighted mean, a sum their sum.

    Raises:
        ValueError: If it is neither, so that its denominator cannot be inferred.
    """
    for inputs, targets, _ in at.batches():
        count = len(targets)
        if count < 2:  # noqa: PLR2004  # cannot be halved
            continue
        whole, *halves = (_value(at, inputs, targets, count, part) for part in _parts(count))
        if not all(map(math.isfinite, (whole, *halves))):
            continue
        half = count // 2
        if _near(whole, (half * halves[0] + (count - half) * halves[1]) / count):
            return at
        if _near(whole, sum(halves)):
            return dataclasses.replace(at, denominator=None)
        raise ValueError(
            "the loss is neither the mean nor the sum over a batch's examples, so batches cannot be combined;"
            " pass denominator=, a function from the targets of a batch to what its loss is divided by"
        )
    return at


def _parts(count: int) -> tuple[slice, slice, slice]:
    return slice(None), slice(count // 2), slice(count // 2, None)


def _value(at: Objective, inputs: Any, targets: Tensor, count: int, part: slice) -> float:
    parameters = [at.tensors[name] for name in at.names]
    with torch.no_grad():
        return float(at.value(parameters, _cut(inputs, count, part), targets[part]))


def _cut(value: Any, count: int, part: slice) -> Any:
    if isinstance(value, Tensor):
        return value[part] if value.ndim and len(value) == count else value
    if isinstance(value, dict):
        return {name: _cut(item, count, part) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_cut(item, count, part) for item in value)
    return value


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12)
