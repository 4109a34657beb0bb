"""The best score of a search so far, by trials or by gradient work, with its band."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optstudy.records.search import SearchResult, Trial, running_best
from optstudy.report.figures.trials import plotted_score

Floats = NDArray[np.float64]
# Trials or gradient work (n,), and the best score so far as drawn, accuracy in per cent: (1, n), or (3, n) with the low
# and the high end of a band. It is the worst possible, infinite, until a trial is completed.
Curve = tuple[Floats, Floats]

_ORDERS = 200
_BAND = (0.025, 0.975)


def best_so_far_over(searches: Sequence[SearchResult], *, by_work: bool) -> Curve:
    """Return the curve of one search, or the median of several in their band from worst to best."""
    each = [_steps(search, search.trials, by_work=by_work) for search in searches]
    positions = np.unique(np.concatenate([positions for positions, _ in each]))
    values = np.stack([_read_steps(positions, *one, worst=_worst(searches[0])) for one in each])
    middle = np.quantile(values, [0.5], axis=0, method="inverted_cdf")
    if len(searches) == 1:
        return positions, middle
    return positions, np.vstack([middle, *_drawable(values.min(axis=0), values.max(axis=0))])


def best_so_far_with_band(search: SearchResult, *, by_work: bool) -> Curve:
    """Return the curve of a search whose trials are exchangeable, in the band over random orders of its trials."""
    positions, best = _steps(search, search.trials, by_work=by_work)
    generator = np.random.default_rng(0)
    orders = [
        [search.trials[index] for index in generator.permutation(len(search.trials))] for _ in range(_ORDERS)
    ]
    values = np.stack(
        [
            _read_steps(positions, *_steps(search, order, by_work=by_work), worst=_worst(search))
            for order in orders
        ]
    )
    low, high = np.quantile(values, _BAND, axis=0, method="inverted_cdf")
    return positions, np.stack([best, *_drawable(low, high)])


def _steps(search: SearchResult, trials: Sequence[Trial], *, by_work: bool) -> tuple[Floats, Floats]:
    """Return the cost at the end of each trial, and the best score from there on."""
    spent = [trial.gradient_work if by_work else 1.0 for trial in trials]
    best = [
        _worst(search) if score is None else plotted_score(search, score)
        for score in running_best(trials, search.objective)
    ]
    return np.cumsum(np.array(spent)), np.array(best)


def _read_steps(positions: Floats, ends: Floats, best: Floats, worst: float) -> Floats:
    """Evaluate the steps at other positions, which may differ from ``ends`` by rounding."""
    passed = np.searchsorted(ends, positions * (1 + 1e-9), side="right")
    return np.append(worst, best)[passed]


def _worst(search: SearchResult) -> float:
    return -math.inf if search.objective == "accuracy" else math.inf


def _drawable(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Replace infinite ends of a band by finite ones far outside the axes."""
    known = np.isfinite(low) | np.isfinite(high)
    low = np.where(np.isneginf(low), 0.0, low)
    high = np.where(np.isposinf(high), 1e9, high)
    return np.where(known, low, math.nan), np.where(known, high, math.nan)
