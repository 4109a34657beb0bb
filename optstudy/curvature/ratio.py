"""The ratio of the two largest eigenvalues, with an interval and a verdict."""

import math
from dataclasses import dataclass
from typing import Literal

from optstudy.curvature.reprs import short_repr

Verdict = Literal["separated", "degenerate", "unresolved"]
Sign = Literal["same", "opposite", "open"]

DEGENERATE = 1.01  # below this ratio the plane is well defined, but not the two vectors in it
NOISE_FACTOR = 10.0  # eigenvalues below this multiple of a product's error are noise


@dataclass(frozen=True)
class Ratio:
    r"""The ratio :math:`|\lambda_1| / |\lambda_2|` of the eigenvalues of largest magnitude, and its sign.

    The verdict is the first that applies: ``unresolved`` (the second value is below the precision), ``degenerate``
    (``high`` below 1.01: the plane is well defined, but not the vectors in it), ``separated`` (``low`` above 1),
    ``unresolved`` (the interval is too wide).

    The sign is ``same`` or ``opposite`` where it is certain, otherwise ``open``. See `ratio_interval`.
    """

    value: float
    low: float
    high: float  # infinite where the second value may be zero
    verdict: Verdict
    sign: Sign

    def __repr__(self) -> str:
        return short_repr(self, "value", "low", "high", "verdict", "sign")


def ratio_interval(
    first: float,
    second: float,
    delta: float,
    noise: float = 0.0,
    *,
    beyond: float | None = None,
    others: tuple[float, float] = (0.0, 0.0),
) -> Ratio:
    r"""Return the ratio of the two eigenvalues of largest magnitude, from two Ritz values.

    Let :math:`\theta_1, \theta_2` be the Ritz values, :math:`\delta` the 2-norm of their residual block,
    :math:`\nu` the error of a product, and :math:`s \geq |\theta_2|` the largest magnitude of a value that was not
    computed. Ritz values do not exceed the eigenvalues in magnitude, and two eigenvalues differ from them by at most
    :math:`\delta` (Parlett, The Symmetric Eigenvalue Problem, 1998, theorem 11.5.1). In a basis that begins with the
    two vectors, the operator differs by the residual block, of norm :math:`\delta`, from one whose eigenvalues are
    :math:`\theta_1, \theta_2` and those of the complement. By Weyl's inequality, therefore,

    .. math::

        |\theta_1| - \nu \leq |\lambda_1| \leq \max(|\theta_1|, s) + \delta + \nu, \qquad
        |\theta_2| - \nu \leq |\lambda_2| \leq s + \delta + \nu,

    .. math::

        \max\left(1, \frac{|\theta_1| - \nu}{s + \delta + \nu}\right) \leq
        \left|\frac{\lambda_1}{\lambda_2}\right| \leq
        \frac{\max(|\theta_1|, s) + \delta + \nu}{|\theta_2| - \nu}.

    The sign requires a bound for each side of zero. A side is clear if its entry :math:`o` of ``others`` satisfies
    :math:`o + \delta + \nu < |\theta_2| - \nu`: only a value near :math:`\theta_1` or :math:`\theta_2` can be
    :math:`\lambda_1` or :math:`\lambda_2` there. Values of one sign are ``same`` if the opposite side is clear. Values
    of both are ``opposite`` if the side of the first is clear, and either ``low`` is above 1 or the other side is clear
    as well: the first is alone on its side, and larger than all on the other, or both are alone.

    Args:
        first: The Ritz value of largest magnitude, signed.
        second: The next value.
        delta: 2-norm of their residual block.
        noise: Error of one product in the precision of the values.
        beyond: Magnitude that no value that was not computed exceeds; by default that of ``second``.
        others: Magnitudes that no other negative and no other positive value exceeds; infinite where unknown.
    """
    first_magnitude, second_magnitude = abs(first), abs(second)
    largest_other = max(second_magnitude, beyond or 0.0)
    error = delta + noise
    above, below = largest_other + error, second_magnitude - noise  # of the second eigenvalue
    low = max(1.0, (first_magnitude - noise) / above) if above else 1.0
    high = (max(first_magnitude, largest_other) + error) / below if below > 0 else math.inf
    value = first_magnitude / second_magnitude if second_magnitude else math.inf
    if second_magnitude <= NOISE_FACTOR * noise:
        return Ratio(value, low, high, "unresolved", "open")
    negative_clear, positive_clear = (other + error < below for other in others)
    if first * second > 0:
        known = negative_clear if first > 0 else positive_clear
        sign: Sign = "same" if known else "open"
    else:
        of_first, of_second = (
            (positive_clear, negative_clear) if first > 0 else (negative_clear, positive_clear)
        )
        sign = "opposite" if of_first and (low > 1 or of_second) else "open"
    return Ratio(value, low, high, _verdict(low, high), sign)


def _verdict(low: float, high: float) -> Verdict:
    if high < DEGENERATE:
        return "degenerate"
    return "separated" if low > 1 else "unresolved"
