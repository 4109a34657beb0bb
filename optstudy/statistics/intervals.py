"""Confidence intervals for a mean over seeds, and for a proportion of test images."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that covers the true mean, in the units of the values."""

    mean: float
    low: float | None  # None for a single value, whose spread is unknown
    high: float | None

    @property
    def half_width(self) -> float | None:
        """Distance from the mean to either end; None where the spread is unknown."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    r"""Estimate the mean of a normal population from independent values, such as one per seed.

    With :math:`n` values of standard deviation :math:`s` the interval is
    :math:`\bar x \pm t_{n-1} \, s / \sqrt n`, :math:`t_{n-1}` the quantile of Student's distribution
    (Student, 1908). Bootstrap percentile intervals are too narrow here: with three seeds they cover the mean
    in 75 %, not 95 % of cases. The interval is not clipped: for an accuracy near 1 it may extend above 1.

    Args:
        values: The sample, shape ``(n,)``; the result is bit-identical for any order.
        confidence: Probability that the interval covers the true mean, between 0 and 1.

    Returns:
        The mean and its interval; ``low`` and ``high`` are None for a single value, whose spread is unknown.

    Raises:
        ValueError: If there are no values, a value is not finite, or ``confidence`` is not inside (0, 1).

    >>> mean_interval([0.98])
    Interval(mean=0.98, low=None, high=None)
    """
    sample = [float(value) for value in values]
    if not sample:
        raise ValueError("no values; give at least one")
    if not all(map(math.isfinite, sample)):
        raise ValueError(f"values {sample} are not all finite; leave out missing measurements")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a probability between 0 and 1, such as 0.95")
    # The standard library sums exactly, so that order and rounding do not matter; numpy's mean does not.
    n, mean = len(sample), statistics.mean(sample)
    if n == 1:
        return Interval(mean, None, None)
    from scipy import stats

    standard_error = statistics.stdev(sample) / math.sqrt(n)
    half_width = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * standard_error
    return Interval(mean, mean - half_width, mean + half_width)


def wilson_interval(correct: float, total: int, confidence: float = 0.95) -> Interval:
    r"""Return a proportion and its Wilson score interval (Wilson, 1927), such as the share of correct test images.

    The interval covers the sampling of the images only, not the variation between trained networks.

    Args:
        correct: Number of correct images; a mean over seeds need not be an integer.
        total: Number of images, at least 1.
        confidence: Probability that the interval covers the true proportion.

    Raises:
        ValueError: If ``correct`` is not between 0 and ``total``, or ``confidence`` not inside (0, 1).

    >>> share = wilson_interval(9_893, 10_000)
    >>> f"{share.low:.4f} to {share.high:.4f}"
    '0.9871 to 0.9911'
    """
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct:g} of {total} is not a proportion")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a probability between 0 and 1, such as 0.95")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(correct, total, alpha=1 - confidence, method="wilson")
    return Interval(correct / total, float(low), float(high))
