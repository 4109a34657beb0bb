"""Descriptive statistics: the discordance of two networks, and rank correlations within one optimizer."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Discordance:
    """Where two networks differ on the same test images."""

    first_only: int  # images that the first alone classifies right
    second_only: int
    p: float  # McNemar's exact test: of these two networks, not of their optimizers


def discordance(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Discordance:
    """Compare two networks by McNemar's exact test (McNemar, 1947).

    It ignores the variance between seeds, so it often claims a difference between equal optimizers.

    Args:
        a: Whether the first is right on each image, ``(N,)``.
        b: The same of the second.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    first, second = int((a & ~b).sum()), int((b & ~a).sum())
    table = [[int((a & b).sum()), first], [second, int((~a & ~b).sum())]]
    return Discordance(first, second, float(mcnemar(table, exact=True).pvalue))


@dataclass(frozen=True)
class Rank:
    """Kendall's tau-b, descriptive."""

    tau: float  # nan where it is not defined: fewer than two runs, or all alike
    runs: int


def rank_correlation(x: ArrayLike, y: ArrayLike) -> Rank:
    """Return Kendall's tau-b between two measures of the same runs (Kendall, 1945); ties count as ties.

    Args:
        x: One measure, ``(n,)``; runs where either is not finite are left out.
        y: The other.
    """
    from scipy import stats

    one, other = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    kept = np.isfinite(one) & np.isfinite(other)
    if kept.sum() < 2:  # noqa: PLR2004  # a pair
        return Rank(math.nan, int(kept.sum()))
    return Rank(float(stats.kendalltau(one[kept], other[kept], variant="b").statistic), int(kept.sum()))
