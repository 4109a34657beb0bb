"""Descriptive statistics: disagreement of two networks, and rank correlation over runs."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Discordance:
    """Test images on which exactly one of two networks is correct."""

    first_only: int  # images that only the first network classifies correctly
    second_only: int
    p: float  # of McNemar's exact test: for these two networks, not for their optimizers


def discordance(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Discordance:
    """Compare two networks by McNemar's exact test (McNemar, 1947).

    Do not use it to compare optimizers: it ignores the variation between seeds, and so often finds differences between
    equal optimizers.

    Args:
        a: Whether the first network is correct on each image, ``(N,)``.
        b: The same for the second.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    first, second = int((a & ~b).sum()), int((b & ~a).sum())
    table = [[int((a & b).sum()), first], [second, int((~a & ~b).sum())]]
    return Discordance(first, second, float(mcnemar(table, exact=True).pvalue))


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's tau-b, as a descriptive statistic."""

    tau: float  # nan if undefined: fewer than two runs, or all values equal
    runs: int


def rank_correlation(x: ArrayLike, y: ArrayLike) -> RankCorrelation:
    """Return Kendall's tau-b, which accounts for ties, between two measures of the same runs (Kendall, 1945).

    Args:
        x: One measure, ``(n,)``; runs for which either is not finite are dropped.
        y: The other measure, ``(n,)``.
    """
    from scipy import stats

    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    finite = np.isfinite(first) & np.isfinite(second)
    if finite.sum() < 2:  # noqa: PLR2004  # a pair
        return RankCorrelation(math.nan, int(finite.sum()))
    return RankCorrelation(
        float(stats.kendalltau(first[finite], second[finite], variant="b").statistic), int(finite.sum())
    )
