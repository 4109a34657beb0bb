"""Figures of one search: history, importances, slices, and score against learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from optstudy.records.look import Look
from optstudy.records.search import SearchResult, running_best
from optstudy.records.space import Choice, Range
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.style import GREY, new_figure, styled, write_note
from optstudy.report.figures.trials import draw_trials, mark_reference_configs, plotted_score, score_axis

_MAX_COLUMNS = 3  # panels side by side
_GOLDEN = (math.sqrt(5) - 1) / 2


@styled
def history(search: SearchResult) -> Figure:
    """Draw the score of each trial by its number, and the best completed score so far as steps."""
    figure = new_figure(5.2, 3.4)
    axes = figure.add_subplot(title=f"{search.space.look.label}: history of the search", xlabel="Trial")
    score_axis(axes, search)
    numbers = [trial.number for trial in search.trials]
    steps = _best_so_far(search)
    if steps:
        ends = [*steps, max(numbers)]
        heights = [*steps.values(), [*steps.values()][-1]]
        axes.step(ends, heights, where="post", color=search.space.look.colour, label="best so far")
    draw_trials(axes, search, {number: number for number in numbers}, search.space.look)
    axes.set_xlim(min(numbers) - 0.7, max(numbers) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def importances(search: SearchResult) -> Figure:
    """Draw the importance of each hyperparameter as a bar, the largest on top."""
    shares = sorted(search.importances.items(), key=lambda share: share[1])
    figure = new_figure(5.2, 1.1 + 0.3 * max(len(shares), 1))
    title = f"{search.space.look.label}: importance for validation {search.objective}"
    axes = figure.add_subplot(title=title)
    if not shares:
        axes.set_xticks([])
        write_note(axes, "The trials do not determine importances")
        return figure
    bars = axes.barh(
        [name for name, _ in shares],
        [100 * share for _, share in shares],
        height=0.6,
        color=search.space.look.colour,
    )
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set(xlabel="Importance (%)", xlim=(0, 108), xticks=range(0, 101, 20))
    axes.set_ylim(-0.6, len(shares) - 0.4)
    axes.grid(visible=False, axis="y")
    return figure


@styled
def slices(search: SearchResult) -> Figure:
    """Draw every trial's score against each hyperparameter, a panel for each.

    Args:
        search: A search of at least one hyperparameter. A range with ``log`` has a logarithmic axis, of 1 - x if it is
            a complement; the points of a choice are spread sideways, so that they do not hide each other.

    Returns:
        Panels with a common y axis. Values that an axis cannot show, such as 0 on a logarithmic axis, are omitted.
    """
    count = len(search.space.search)
    height = math.ceil(count / _MAX_COLUMNS)
    width = math.ceil(count / height)
    figure = new_figure(max(2.3 * width, 3.2) + 0.6, 2.3 * height + 0.8)
    title = f"{search.space.look.label}: validation {search.objective} by hyperparameter"
    figure.suptitle(title, x=0.01, horizontalalignment="left")
    panels = [*figure.subplots(height, width, sharey=True, squeeze=False).flat]
    score_axis(panels[0], search)
    for axes, dimension in zip(panels, search.space.search, strict=False):
        draw_slice(axes, search, dimension, search.space.look)
    for axes in panels[width::width]:
        axes.set_ylabel(panels[0].get_ylabel())
    for axes in panels[count:]:
        axes.remove()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


@styled
def score_against_learning_rate(search: SearchResult) -> Figure:
    """Draw every trial's score against its learning rate, with rings at the library's and the paper's values.

    Returns:
        Points with a logarithmic x axis; a message if ``lr`` was not searched.
    """
    objective = search.objective
    figure = new_figure(5.2, 3.6)
    title = f"{search.space.look.label}: validation {objective} against learning rate"
    axes = figure.add_subplot(title=title)
    rates = [dimension for dimension in search.space.search if dimension.name == "lr"]
    if not rates:
        axes.set_xticks([])
        write_note(axes, "The learning rate was not searched")
        return figure
    score_axis(axes, search)
    positions = draw_slice(axes, search, rates[0], search.space.look)
    mark_reference_configs(axes, search, positions)
    axes.set_xlabel("Learning rate")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _best_so_far(search: SearchResult) -> dict[int, float]:
    """Return the best score after each completed trial, as drawn, by trial number."""
    best = zip(search.trials, running_best(search.trials, search.objective), strict=True)
    return {
        trial.number: plotted_score(search, score)
        for trial, score in best
        if trial.state == "completed" and score is not None
    }


def draw_slice(axes: Axes, search: SearchResult, dimension: Range | Choice, look: Look) -> dict[int, float]:
    """Draw trials along one hyperparameter, and return their x positions by trial number."""
    values = {t.number: t.params[dimension.name] for t in search.trials if dimension.name in t.params}
    if isinstance(dimension, Choice):
        positions = _choice_axis(axes, dimension, values)
    else:
        positions = _range_axis(axes, dimension, values)
    draw_trials(axes, search, positions, look)
    return positions


def _range_axis(axes: Axes, dimension: Range, values: Mapping[int, float]) -> dict[int, float]:
    complement = dimension.log and dimension.complement
    axes.set_xlabel(f"1 - {dimension.name}" if complement else dimension.name)
    positions = {number: 1 - value if complement else value for number, value in values.items()}
    if not dimension.log:
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=dimension.integer, min_n_ticks=1))
        return positions
    positions = {number: position for number, position in positions.items() if position > 0}
    log_axis(axes, "x", [*positions.values()])
    return positions


def _choice_axis(axes: Axes, dimension: Choice, values: Mapping[int, Any]) -> dict[int, float]:
    names: Sequence[str] = [str(choice) for choice in dimension.choices]
    labels = [f"{c:g}" if isinstance(c, float) else str(c) for c in dimension.choices]
    axes.set_xticks(range(len(names)), labels, rotation=30 if sum(map(len, names)) > 20 else 0)  # noqa: PLR2004
    axes.set(xlabel=f"{dimension.name}, spread sideways", xlim=(-0.5, len(names) - 0.5))
    for edge in range(1, len(names)):
        axes.axvline(edge - 0.5, color=GREY, linewidth=0.5)
    # Multiples of the golden ratio spread any number of points evenly and deterministically.
    return {
        number: names.index(str(value)) + 0.5 * ((number * _GOLDEN) % 1 - 0.5)
        for number, value in values.items()
        if str(value) in names
    }
