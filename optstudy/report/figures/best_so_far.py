"""The best score of a search so far, by trials or by gradient work, with its band."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optstudy.records.search import SearchResult, Trial, running_best
from optstudy.report.figures.trials import plotted_score

Floats = NDArray[np.float64]
# Trials or gradient work (n,), and the best score so far as drawn, accuracy in per cent: (1, n), or (3, n) with the
# lower and upper limits of a band. The score is infinitely bad until a trial is completed.
Curve = tuple[Floats, Floats]

_ORDERS = 200
_BAND = (0.025, 0.975)


def median_best_so_far(searches: Sequence[SearchResult], *, by_work: bool) -> Curve:
    """Return the curve of one search, or the median of several searches with a band from worst to best."""
    curves = [_steps(search, search.trials, by_work=by_work) for search in searches]
    positions = np.unique(np.concatenate([positions for positions, _ in curves]))
    values = np.stack([_evaluate_steps(positions, *curve, worst=_worst(searches[0])) for curve in curves])
    median = np.quantile(values, [0.5], axis=0, method="inverted_cdf")
    if len(searches) == 1:
        return positions, median
    return positions, np.vstack([median, *_clip_band(values.min(axis=0), values.max(axis=0))])


def permuted_best_so_far(search: SearchResult, *, by_work: bool) -> Curve:
    """Return the curve of a search with exchangeable trials, with a band over random orders of its trials."""
    positions, best = _steps(search, search.trials, by_work=by_work)
    generator = np.random.default_rng(0)
    orders = [
        [search.trials[index] for index in generator.permutation(len(search.trials))] for _ in range(_ORDERS)
    ]
    values = np.stack(
        [
            _evaluate_steps(positions, *_steps(search, order, by_work=by_work), worst=_worst(search))
            for order in orders
        ]
    )
    low, high = np.quantile(values, _BAND, axis=0, method="inverted_cdf")
    return positions, np.stack([best, *_clip_band(low, high)])


def _steps(search: SearchResult, trials: Sequence[Trial], *, by_work: bool) -> tuple[Floats, Floats]:
    """Return the cumulative cost at the end of each trial, and the best score after it."""
    costs = [trial.gradient_work if by_work else 1.0 for trial in trials]
    best = [
        _worst(search) if score is None else plotted_score(search, score)
        for score in running_best(trials, search.objective)
    ]
    return np.cumsum(np.array(costs)), np.array(best)


def _evaluate_steps(positions: Floats, ends: Floats, best: Floats, worst: float) -> Floats:
    """Evaluate a step function at positions that may differ from its ``ends`` by rounding."""
    completed = np.searchsorted(ends, positions * (1 + 1e-9), side="right")
    return np.append(worst, best)[completed]


def _worst(search: SearchResult) -> float:
    return -math.inf if search.objective == "accuracy" else math.inf


def _clip_band(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Replace infinite limits of a band by finite values far outside the axes."""
    defined = np.isfinite(low) | np.isfinite(high)
    low = np.where(np.isneginf(low), 0.0, low)
    high = np.where(np.isposinf(high), 1e9, high)
    return np.where(defined, low, math.nan), np.where(defined, high, math.nan)
