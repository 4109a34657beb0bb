"""Draw the trials of a search as points: their scores, states and reference configurations."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes

from optstudy.records.look import Look
from optstudy.records.search import SearchResult, Trial
from optstudy.report.figures.axes import accuracy_axis, log_axis
from optstudy.report.figures.style import GREY, INK, write_note

_STATES: dict[str, dict[str, Any]] = {  # in drawing order
    "pruned": {"marker": "o", "color": GREY, "markerfacecolor": "white", "markersize": 4.5},
    "failed": {"marker": "+", "color": INK, "markersize": 7},
    "diverged": {"marker": "x", "color": INK, "markersize": 5},
    "completed": {"markersize": 5},
}
_RING: dict[str, Any] = {"color": INK, "markerfacecolor": "none", "markeredgewidth": 1.2}


def plotted_score(search: SearchResult, score: float) -> float:
    """Return a score as drawn: accuracy in per cent, loss as it is."""
    return 100 * score if search.objective == "accuracy" else score


def score_axis(axes: Axes, search: SearchResult) -> None:
    """Label and scale the y axis for a search's scores."""
    scores = [plotted_score(search, trial.score) for trial in search.trials if trial.score is not None]
    accuracy_label = "Validation accuracy (%),\nlogarithmic in the error"
    axes.set_ylabel(accuracy_label if search.objective == "accuracy" else "Validation loss")
    if not scores:
        write_note(axes, "No trial has a finite score")
    elif search.objective == "accuracy":
        accuracy_axis(axes, "y", scores)
    elif min(scores) > 0:
        log_axis(axes, "y", scores)


def draw_trials(axes: Axes, search: SearchResult, positions: Mapping[int, float], look: Look) -> None:
    """Draw each trial with a marker for its state, and a star on the best.

    Trials without a score are drawn at the edge of the y axis where scores are worst.

    Args:
        axes: The axes, with the y axis of ``score_axis``.
        search: The search.
        positions: x positions by trial number; other trials are not drawn.
        look: Look of the optimizer.
    """
    base = {"marker": look.marker, "color": look.colour}
    for state, marks in _STATES.items():
        trials = [trial for trial in search.trials if trial.state == state]
        label = "pruned, its last score" if state == "pruned" else state
        _draw(axes, search, trials, positions, base | marks | {"label": label})
    star = base | {"marker": "*", "markersize": 13, "markeredgecolor": INK, "label": "chosen"}
    _draw(axes, search, [search.best] if search.best else [], positions, star)


def mark_reference_configs(axes: Axes, search: SearchResult, positions: Mapping[int, float]) -> None:
    """Mark the trial with the library's defaults by a diamond, and the trial with the paper's values by a square."""
    space = search.space
    if default := _find_trial(search, space.config("default")):
        look = _RING | {"marker": "D", "markersize": 10, "label": "library's defaults"}
        _draw(axes, search, [default], positions, look)
    if space.paper is not None and (paper := _find_trial(search, space.config("paper"))):
        look = _RING | {"marker": "s", "markersize": 12, "label": "paper's values"}
        _draw(axes, search, [paper], positions, look)


def _draw(
    axes: Axes,
    search: SearchResult,
    trials: Iterable[Trial],
    positions: Mapping[int, float],
    look: dict[str, Any],
) -> None:
    edge = 0.03 if search.objective == "accuracy" else 0.97
    drawn = [trial for trial in trials if trial.number in positions]
    scores = {trial.number: plotted_score(search, trial.score) for trial in drawn if trial.score is not None}
    unscored = [trial.number for trial in drawn if trial.score is None]
    points = [
        (scores, list(scores.values()), axes.transData),
        (unscored, [edge] * len(unscored), axes.get_xaxis_transform()),
    ]
    for numbers, heights, transform in points:
        if numbers:
            xs = [positions[number] for number in numbers]
            axes.plot(xs, heights, linestyle="none", transform=transform, **look)
            look = {key: value for key, value in look.items() if key != "label"}  # once in the legend


def _find_trial(search: SearchResult, config: Mapping[str, Any]) -> Trial | None:
    """Return the first trial whose searched values are those of a configuration."""
    names = [dimension.name for dimension in search.space.search]
    same = (t for t in search.trials if all(_same(t.params.get(n), config.get(n)) for n in names))
    return next(same, None)


def _same(a: Any, b: Any) -> bool:
    # A complement is stored as 1 - (1 - 0.9), which is not exactly 0.9.
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return math.isclose(a, b, rel_tol=1e-9) if numbers else bool(a == b)
