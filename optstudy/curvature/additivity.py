"""Detect whether a custom loss is a mean over examples, a sum, or neither, so that batches can be combined."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from optstudy.curvature.objective import Objective, map_tensors

TOLERANCE = 1e-4  # relative difference between a batch's loss and that of its halves; float32 errors are a tenth of it


def infer_denominator(objective: Objective) -> Objective:
    """Infer the denominator of a custom loss, and return the objective over several batches with it.

    The loss of a batch is compared with those of its halves: their weighted mean if it is a mean, or their sum.

    Raises:
        ValueError: If it is neither, so that its denominator cannot be inferred.
    """
    for inputs, targets, _ in objective.batches():
        count, half = len(targets), len(targets) // 2
        if not half:
            continue
        parts = (slice(None), slice(half), slice(half, None))
        full, *halves = (_partial_loss(objective, inputs, targets, part) for part in parts)
        if not all(map(math.isfinite, (full, *halves))):
            continue
        if _is_close(full, (half * halves[0] + (count - half) * halves[1]) / count):
            return objective
        if _is_close(full, sum(halves)):
            return dataclasses.replace(objective, denominator=None)
        raise ValueError(
            "the loss is neither the mean nor the sum over a batch's examples, so batches cannot be combined;"
            " pass denominator=, a function that maps the targets of a batch to the divisor of its loss"
        )
    return objective


def _partial_loss(objective: Objective, inputs: Any, targets: Tensor, part: slice) -> float:
    """Return the loss of part of a batch."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[part] if tensor.ndim and len(tensor) == len(targets) else tensor

    parameters = [objective.tensors[name] for name in objective.names]
    with torch.no_grad():
        return float(objective.value(parameters, map_tensors(inputs, cut), targets[part]))


def _is_close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12)
