"""The ratio of the two largest eigenvalues, with an interval and a verdict."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from optstudy.curvature.reprs import short_repr

Verdict = Literal["separated", "degenerate", "indefinite", "unresolved"]

DEGENERATE = 1.01  # below this ratio the plane is well defined, but not the two vectors in it
NOISE_FACTOR = 10.0  # eigenvalues below this multiple of a product's error are noise


@dataclass(frozen=True)
class Ratio:
    r"""The ratio :math:`|\lambda_1| / |\lambda_2|` of the eigenvalues of largest magnitude.

    With Ritz values :math:`\theta` and the 2-norm :math:`\delta` of their residual block, the true ratio lies between
    :math:`\max(1, |\theta_1| / (|\theta_2| + \delta))` and :math:`(|\theta_1| + \delta) / |\theta_2|`, if no
    eigenvalue was missed: Ritz values do not exceed the eigenvalues, and differ by at most :math:`\delta` (Parlett,
    The Symmetric Eigenvalue Problem, 1998, theorem 11.5.1).

    The verdict is the first that applies: ``unresolved`` (the second value is below the precision), ``indefinite``
    (opposite signs), ``degenerate`` (``high`` below 1.01: the plane is well defined, but not the vectors in it),
    ``separated`` (``low`` above 1), ``unresolved`` (the interval is too wide).
    """

    value: float
    low: float
    high: float  # infinite where the second value is zero
    verdict: Verdict

    def __repr__(self) -> str:
        return short_repr(self, "value", "low", "high", "verdict")


def ratio_interval(first: float, second: float, delta: float, noise: float = 0.0) -> Ratio:
    """Return the ratio of two Ritz values.

    Args:
        first: The value of largest magnitude, signed.
        second: The next value.
        delta: 2-norm of their residual block.
        noise: Error of one product in the precision of the values.
    """
    first_magnitude, second_magnitude = abs(first), abs(second)
    low = max(1.0, first_magnitude / (second_magnitude + delta)) if second_magnitude + delta else 1.0
    high = (first_magnitude + delta) / second_magnitude if second_magnitude else math.inf
    value = first_magnitude / second_magnitude if second_magnitude else math.inf
    return Ratio(
        value, low, high, _verdict(first * second < 0, second_magnitude <= NOISE_FACTOR * noise, low, high)
    )


def _verdict(opposite: bool, below_noise: bool, low: float, high: float) -> Verdict:
    if below_noise:
        return "unresolved"
    if opposite:
        return "indefinite"
    if high < DEGENERATE:
        return "degenerate"
    return "separated" if low > 1 else "unresolved"


def block_norm(rows: Tensor) -> float:
    """Return the 2-norm of a few rows ``(k, n)``: the root of the first eigenvalue of their Gram matrix.

    This is as accurate as a singular value decomposition, which would take a fifth of the time of an operator product.
    """
    largest = float(rows.abs().max()) if len(rows) else 0.0
    if not largest or not math.isfinite(largest):
        return largest
    scaled = rows / largest  # so that squares do not underflow
    return largest * math.sqrt(float(torch.linalg.eigvalsh((scaled @ scaled.T).cpu().double())[-1]))
