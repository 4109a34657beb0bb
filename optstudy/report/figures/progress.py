"""The best score of a search so far, along its trials or its work, and a band where there is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optstudy.records.search import Searched, Trial
from optstudy.report.figures.trials import shown

Floats = NDArray[np.float64]

_ORDERS = 200
_HELD = (0.025, 0.975)


@dataclass(frozen=True)
class Progress:
    """The best score so far; the worst, infinite, where no trial is completed yet."""

    places: Floats  # (n,) trials or gradient work
    best: Floats  # (n,) as drawn, which is accuracy in per cent
    low: Floats | None = None  # (n,) of the band; None without one
    high: Floats | None = None

    def finite(self) -> list[float]:
        """All values that an axis must hold."""
        parts = [part for part in (self.best, self.low, self.high) if part is not None]
        return [float(value) for part in parts for value in part[np.isfinite(part)]]


def progress_over(searches: Sequence[Searched], *, by_work: bool) -> Progress:
    """Return the progress of one search, or the median of several in the band from the worst to the best."""
    each = [_steps(searched, searched.trials, by_work=by_work) for searched in searches]
    places = np.unique(np.concatenate([places for places, _ in each]))
    values = np.stack([_at(places, *one, worst=_worst(searches[0])) for one in each])
    middle = np.quantile(values, 0.5, axis=0, method="inverted_cdf")
    if len(searches) == 1:
        return Progress(places, middle)
    return Progress(places, middle, *_drawable(values.min(axis=0), values.max(axis=0)))


def progress_with_band(searched: Searched, *, by_work: bool) -> Progress:
    """Return the progress of a search whose trials might as well have come in any other order."""
    places, best = _steps(searched, searched.trials, by_work=by_work)
    generator = np.random.default_rng(0)
    orders = [
        [searched.trials[place] for place in generator.permutation(len(searched.trials))]
        for _ in range(_ORDERS)
    ]
    values = np.stack(
        [_at(places, *_steps(searched, order, by_work=by_work), worst=_worst(searched)) for order in orders]
    )
    low, high = np.quantile(values, _HELD, axis=0, method="inverted_cdf")
    return Progress(places, best, *_drawable(low, high))


def _steps(searched: Searched, trials: Sequence[Trial], *, by_work: bool) -> tuple[Floats, Floats]:
    """Where each trial ended, and the best score from there on."""
    spent = [trial.gradient_work if by_work else 1.0 for trial in trials]
    scores = [
        shown(searched, trial.score)
        if trial.state == "completed" and trial.score is not None
        else _worst(searched)
        for trial in trials
    ]
    better = np.maximum if searched.objective == "accuracy" else np.minimum
    return np.cumsum(np.array(spent)), better.accumulate(np.array(scores))


def _at(places: Floats, ends: Floats, best: Floats, worst: float) -> Floats:
    """Read the steps at other places; the sum of the same works in another order may fall short by a rounding."""
    passed = np.searchsorted(ends, places * (1 + 1e-9), side="right")
    return np.append(worst, best)[passed]


def _worst(searched: Searched) -> float:
    return -math.inf if searched.objective == "accuracy" else math.inf


def _drawable(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Put the end of a band that is infinite far outside, so that it fills the axes."""
    known = np.isfinite(low) | np.isfinite(high)
    low = np.where(np.isneginf(low), 0.0, low)
    high = np.where(np.isposinf(high), 1e9, high)
    return np.where(known, low, math.nan), np.where(known, high, math.nan)
