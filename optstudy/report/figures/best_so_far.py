"""The best score of a search so far, by trials or by gradient work, with its band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optstudy.records.search import SearchResult, Trial, running_best
from optstudy.report.figures.trials import plotted_score

Floats = NDArray[np.float64]

_ORDERS = 200
_HELD = (0.025, 0.975)


@dataclass(frozen=True)
class BestSoFar:
    """The best score so far; the worst, infinite, where no trial is completed yet."""

    places: Floats  # (n,) trials or gradient work
    best: Floats  # (n,) as drawn, which is accuracy in per cent
    low: Floats | None = None  # (n,) of the band; None without one
    high: Floats | None = None

    def finite(self) -> list[float]:
        """All values that an axis must hold."""
        parts = [part for part in (self.best, self.low, self.high) if part is not None]
        return [float(value) for part in parts for value in part[np.isfinite(part)]]


def best_so_far_over(searches: Sequence[SearchResult], *, by_work: bool) -> BestSoFar:
    """Return the curve of one search, or the median of several in the band from the worst to the best."""
    each = [_steps(search, search.trials, by_work=by_work) for search in searches]
    places = np.unique(np.concatenate([places for places, _ in each]))
    values = np.stack([_at(places, *one, worst=_worst(searches[0])) for one in each])
    middle = np.quantile(values, 0.5, axis=0, method="inverted_cdf")
    if len(searches) == 1:
        return BestSoFar(places, middle)
    return BestSoFar(places, middle, *_drawable(values.min(axis=0), values.max(axis=0)))


def best_so_far_with_band(search: SearchResult, *, by_work: bool) -> BestSoFar:
    """Return the curve of a search whose trials might as well have come in any other order."""
    places, best = _steps(search, search.trials, by_work=by_work)
    generator = np.random.default_rng(0)
    orders = [
        [search.trials[place] for place in generator.permutation(len(search.trials))] for _ in range(_ORDERS)
    ]
    values = np.stack(
        [_at(places, *_steps(search, order, by_work=by_work), worst=_worst(search)) for order in orders]
    )
    low, high = np.quantile(values, _HELD, axis=0, method="inverted_cdf")
    return BestSoFar(places, best, *_drawable(low, high))


def _steps(search: SearchResult, trials: Sequence[Trial], *, by_work: bool) -> tuple[Floats, Floats]:
    """Where each trial ended, and the best score from there on."""
    spent = [trial.gradient_work if by_work else 1.0 for trial in trials]
    best = [
        _worst(search) if score is None else plotted_score(search, score)
        for score in running_best(trials, search.objective)
    ]
    return np.cumsum(np.array(spent)), np.array(best)


def _at(places: Floats, ends: Floats, best: Floats, worst: float) -> Floats:
    """Read the steps at other places; the sum of the same works in another order may fall short by a rounding."""
    passed = np.searchsorted(ends, places * (1 + 1e-9), side="right")
    return np.append(worst, best)[passed]


def _worst(search: SearchResult) -> float:
    return -math.inf if search.objective == "accuracy" else math.inf


def _drawable(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Put the end of a band that is infinite far outside, so that it fills the axes."""
    known = np.isfinite(low) | np.isfinite(high)
    low = np.where(np.isneginf(low), 0.0, low)
    high = np.where(np.isposinf(high), 1e9, high)
    return np.where(known, low, math.nan), np.where(known, high, math.nan)
