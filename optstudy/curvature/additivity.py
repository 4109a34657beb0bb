"""Detect whether a custom loss is a mean over examples, a sum, or neither, so that batches can be combined."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from optstudy.curvature.objective import Objective, map_tensors

TOLERANCE = 1e-4  # relative, between a batch's loss and that of its halves; float32 errors are a tenth of it


def infer_denominator(at: Objective) -> Objective:
    """Return an objective over several batches with the denominator that its custom loss uses.

    The loss of a batch is compared with the losses of its halves: a mean is their weighted mean, a sum their sum.

    Raises:
        ValueError: If it is neither, so that its denominator cannot be inferred.
    """
    for inputs, targets, _ in at.batches():
        count, half = len(targets), len(targets) // 2
        if not half:
            continue
        parts = (slice(None), slice(half), slice(half, None))
        whole, *halves = (_value(at, inputs, targets, part) for part in parts)
        if not all(map(math.isfinite, (whole, *halves))):
            continue
        if _near(whole, (half * halves[0] + (count - half) * halves[1]) / count):
            return at
        if _near(whole, sum(halves)):
            return dataclasses.replace(at, denominator=None)
        raise ValueError(
            "the loss is neither the mean nor the sum over a batch's examples, so batches cannot be combined;"
            " pass denominator=, a function from the targets of a batch to what its loss is divided by"
        )
    return at


def _value(at: Objective, inputs: Any, targets: Tensor, part: slice) -> float:
    """Return the loss of part of a batch."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[part] if tensor.ndim and len(tensor) == len(targets) else tensor

    parameters = [at.tensors[name] for name in at.names]
    with torch.no_grad():
        return float(at.value(parameters, map_tensors(inputs, cut), targets[part]))


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12)
