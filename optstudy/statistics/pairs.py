"""Paired tests of optimizers over seeds and test images, corrected for multiplicity, and the verdict of each pair."""

import bisect
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["better", "worse", "equivalent", "no difference shown", "too few seeds"]
Key = TypeVar("Key")

POWER = 0.8  # of the test, for which the smallest detectable difference is computed
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Difference:
    r"""Mean accuracy of A minus that of B, and its variance.

    With :math:`d_{si}` the correctness of A minus that of B on image :math:`i` under seed :math:`s`, and both seeds
    and images drawn at random, the variance of the mean over :math:`S` seeds and :math:`N` images is estimated by

    .. math:: v = s^2_\text{seed} / S + \max(0, s^2_\text{image} - s^2_\text{res} / S) / N

    from the variances of the seeds' means, of the images' means and of the two-way residuals. The first term already
    contains the contribution of the residuals.
    """

    mean: float  # fraction
    seed_variance: float  # s2_seed; nan with one seed
    image_variance: float  # max(0, s2_image - s2_res / S) / N
    seeds: int  # S
    images: int  # N

    def variance(self, seeds: int) -> float:
        """Return the variance of the mean for a given number of seeds."""
        return self.seed_variance / seeds + self.image_variance

    @property
    def error(self) -> float:
        """The standard error; nan with one seed."""
        return math.sqrt(self.variance(self.seeds))


def difference(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Difference:
    """Compare which test images two optimizers classify correctly.

    Args:
        a: Whether A is correct, ``(S, N)``: one row for each common seed, one column for each image.
        b: The same for B, with rows and columns in the same order.

    Raises:
        ValueError: If the shapes differ, or there is no seed or fewer than two images.
    """
    if a.shape != b.shape or a.ndim != 2:  # noqa: PLR2004
        raise ValueError(f"shapes {a.shape} and {b.shape} are not both (seeds, images)")
    seeds, images = a.shape
    if seeds < 1 or images < 2:  # noqa: PLR2004  # a variance needs two
        raise ValueError(f"{seeds} seeds and {images} images; give at least 1 seed and 2 images")
    d = a.astype(np.float64) - b
    mean = float(d.mean())
    if seeds == 1:
        return Difference(mean, math.nan, math.nan, seeds, images)
    seed_means, image_means = d.mean(axis=1), d.mean(axis=0)
    residuals = d - seed_means[:, None] - image_means + mean
    residual = float((residuals**2).sum()) / ((seeds - 1) * (images - 1))
    excess = max(0.0, float(image_means.var(ddof=1)) - residual / seeds)
    return Difference(mean, float(seed_means.var(ddof=1)), excess / images, seeds, images)


@dataclass(frozen=True)
class PairTest:
    """The test of one difference, adjusted for all pairs of the comparison."""

    difference: Difference
    low: float  # of the Bonferroni interval; nan with one seed
    high: float
    p: float  # two-sided, for no difference; nan with one seed
    p_holm: float  # adjusted by Holm over all pairs
    verdict: Verdict  # for A
    smallest_detectable: float  # smallest difference detectable with power 0.8; nan with one seed


def compare_pairs(pairs: Mapping[Key, Difference], margin: float, level: float = 0.05) -> dict[Key, PairTest]:
    r"""Test for each pair whether A is better, worse or equivalent, controlling the family-wise error rate.

    :math:`t = \text{mean} / \sqrt v` has :math:`S - 1` degrees of freedom. A difference is claimed if its p-value
    after Holm (1979) is below ``level``, and equivalence if both one-sided tests reject a difference as large as
    ``margin`` (Schuirmann, 1987), also after Holm. Intervals are Bonferroni-corrected.

    Args:
        pairs: Differences. Those with a single seed get no verdict and are not counted in the adjustment.
        margin: Difference in accuracy, a fraction, below which two optimizers count as equivalent; fixed beforehand.
        level: Family-wise error rate of each kind of claim.
    """
    from scipy import stats

    tested = {key: pair for key, pair in pairs.items() if pair.seeds > 1}
    p_values = [_p_value(pair, abs(pair.mean), two_sided=True) for pair in tested.values()]
    p_equivalent = [_p_value(pair, margin - abs(pair.mean), two_sided=False) for pair in tested.values()]
    different = dict(zip(tested, holm_adjusted(p_values), strict=True))
    equivalent = dict(zip(tested, holm_adjusted(p_equivalent), strict=True))
    results = {
        key: PairTest(pair, math.nan, math.nan, math.nan, math.nan, "too few seeds", math.nan)
        for key, pair in pairs.items()
    }
    for (key, pair), p in zip(tested.items(), p_values, strict=True):
        half_width = float(stats.t.ppf(1 - level / (2 * len(tested)), pair.seeds - 1)) * pair.error
        verdict: Verdict = "no difference shown"
        if different[key] < level:
            verdict = "better" if pair.mean > 0 else "worse"
        elif equivalent[key] < level:
            verdict = "equivalent"
        results[key] = PairTest(
            difference=pair,
            low=pair.mean - half_width,
            high=pair.mean + half_width,
            p=p,
            p_holm=different[key],
            verdict=verdict,
            smallest_detectable=_detectable(pair, pair.seeds, level / len(tested)),
        )
    return results


def seeds_needed(pair: Difference, effect: float, pairs: int, level: float = 0.05) -> int | None:
    """Return the number of seeds needed to detect a difference with power 0.8; None if the test set is too small.

    Args:
        pair: The difference observed so far, from at least two seeds.
        effect: The difference in accuracy to detect, a fraction.
        pairs: Number of pairs in the comparison.
        level: See `compare_pairs`.
    """

    def detectable(seeds: int) -> float:
        return _detectable(pair, seeds, level / pairs)

    if detectable(MAX_SEEDS) > effect:
        return None
    return 2 + bisect.bisect_left(range(2, MAX_SEEDS), True, key=lambda seeds: detectable(seeds) <= effect)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    r"""Adjust p-values for multiple testing by Holm's step-down procedure (1979).

    With :math:`p_{(1)} \le \dots \le p_{(n)}` the adjusted values are
    :math:`\min(1, \max_{j \le i} (n - j + 1) p_{(j)})`.

    The implementation in statsmodels runs the garbage collector at each call, which takes a third of a second with
    torch loaded.

    Args:
        p_values: The p-values of one family of tests, in any order.

    Returns:
        The adjusted p-values in the same order.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def _p_value(pair: Difference, distance: float, *, two_sided: bool) -> float:
    """Return the p-value of a mean at a distance from its value under the null hypothesis."""
    from scipy import stats

    if not pair.error:  # the difference is the same on every image
        return 0.0 if distance > 0 else 1.0
    return float((1 + two_sided) * stats.t.sf(distance / pair.error, pair.seeds - 1))


def _detectable(pair: Difference, seeds: int, level: float) -> float:
    return _effect(seeds, level) * math.sqrt(seeds * pair.variance(seeds))


@functools.cache
def _effect(seeds: int, level: float) -> float:
    """Return the detectable difference, in standard deviations of one seed.

    This is the noncentrality at which :math:`t` exceeds the upper quantile with the required power; falling below the
    lower quantile is negligible at any level in use. Root finding on the noncentral distribution fails for few seeds.
    """
    from scipy import special, stats

    quantile = float(stats.t.isf(level / 2, seeds - 1))
    return float(special.nctdtrinc(seeds - 1, 1 - POWER, quantile)) / math.sqrt(seeds)
