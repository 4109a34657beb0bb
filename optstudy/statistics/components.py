"""Variance components: the variance between groups and within them."""

from collections.abc import Sequence

import numpy as np


def variance_components(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Estimate the variances between and within groups of unequal size (Searle et al., 1992, section 3.6).

    The model is value = mean + group effect + residual.
    With mean squares between and within k groups of sizes n_i, N values in total,

        within = MSW,  between = max(0, (MSB - MSW) / n_0),  n_0 = (N - sum n_i^2 / N) / (k - 1).

    Args:
        groups: At least two groups, at least one of which has two or more values.

    Returns:
        The variance of the group effects, 0 if its estimate is negative, and the variance within groups.

    >>> variance_components([[1.0, 3.0], [5.0, 7.0]])
    (7.0, 2.0)
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    sizes = np.array([len(array) for array in arrays])
    total, count = int(sizes.sum()), len(arrays)
    means = np.array([array.mean() for array in arrays])
    grand_mean = float((sizes * means).sum() / total)
    squares = sum(float(((array - mean) ** 2).sum()) for array, mean in zip(arrays, means, strict=True))
    within = squares / (total - count)
    between = float((sizes * (means - grand_mean) ** 2).sum()) / (count - 1)
    effective_size = (total - float((sizes**2).sum()) / total) / (count - 1)
    return max(0.0, (between - within) / effective_size), within
