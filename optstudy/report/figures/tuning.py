"""Figures of all searches: best score so far, and scores against the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from optstudy.records.evidence import Evidence
from optstudy.records.look import Look, Looks
from optstudy.records.naming import RowKey
from optstudy.records.search import SearchResult
from optstudy.report.figures.axes import accuracy_axis, log_axis
from optstudy.report.figures.best_so_far import Curve, median_best_so_far, permuted_best_so_far
from optstudy.report.figures.rows import (
    empty_figure,
    label_axes,
    legend,
    panels,
    row_looks,
    set_heading,
    thin_ticks,
    write_in_panel,
)
from optstudy.report.figures.search import draw_slice
from optstudy.report.figures.style import GREY, INK, column_styled, new_column_figure, write_note
from optstudy.report.figures.trials import mark_reference_configs, score_axis

_MARKER_SCALE = 0.65  # factor by which markers are smaller than in a figure of one search
_SCORES = {"accuracy": "validation accuracy (%)", "loss": "validation loss"}


@column_styled
def tuning_curves(evidence: Evidence) -> Figure:
    """Draw the best score so far of each search against its trials and against its gradient work.

    Every trial costs work, but only completed trials improve the best score. Searches that differ only in their seed
    are one line, their median, with a band from the worst to the best. The trials of a random search without
    pruning are exchangeable: its band holds 95 % of 200 random orders. An adaptive sampler has no band.

    Returns:
        Two panels for each objective.
    """
    if not evidence.searches:
        return empty_figure("There are no searches")
    groups = _replicates(evidence.searches, evidence.looks)
    objectives = list(dict.fromkeys(group[0].objective for _, group in groups))
    figure = new_column_figure(0.75 + 1.75 * len(objectives) + 0.07 * len(groups))
    all_axes = figure.subplots(len(objectives), 2, sharey="row", squeeze=False)
    handles: dict[str, Any] = {}
    for line, objective in zip(all_axes, objectives, strict=True):
        selected = [(look, group) for look, group in groups if group[0].objective == objective]
        values: list[float] = []
        for axes, by_work in zip(line, (False, True), strict=True):
            for look, group in selected:
                curve = _best_so_far(group, by_work=by_work)
                values += curve[1][np.isfinite(curve[1])].tolist()
                handles[look.label] = _draw(axes, curve, look)
        _score_axis(line[0], objective, values)
        line[0].set_ylabel(f"Best {_SCORES[objective]}")
    for axes in all_axes[:, 0]:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    for axes in all_axes[:, 1]:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
    all_axes[-1, 0].set_xlabel("Trials")
    all_axes[-1, 1].set_xlabel("Gradient work (mini-batches)")
    if "accuracy" in objectives:
        set_heading(figure, "The axis of accuracy is logarithmic in the error")
    legend(figure, handles)
    return figure


def _replicates(searches: Sequence[SearchResult], looks: Looks) -> list[tuple[Look, list[SearchResult]]]:
    """Group the searches that differ only in their seed; each group has a look."""
    groups: dict[str, list[SearchResult]] = {}
    for search in searches:
        other_settings = sorted(
            (name, repr(value)) for name, value in search.settings.items() if name != "seed"
        )
        key = repr((search.optimizer, search.space.search, other_settings))
        seeds = [other.settings.get("seed") for other in groups.get(key, [])]
        repeated = search.settings.get("seed") in seeds  # the same search in another study
        suffix = search.study if repeated else ""
        groups.setdefault(key + suffix, []).append(search)
    names = [RowKey(group[0].study, group[0].optimizer, "best") for group in groups.values()]
    labelled = []
    for look, group in zip(row_looks(names, looks).values(), groups.values(), strict=True):
        label = f"{look.label} ({len(group)} searches)" if len(group) > 1 else look.label
        labelled.append((replace(look, label=label), group))
    return labelled


def _best_so_far(group: Sequence[SearchResult], *, by_work: bool) -> Curve:
    settings = group[0].settings
    if len(group) == 1 and (settings.get("sampler"), settings.get("pruner")) == ("random", "none"):
        return permuted_best_so_far(group[0], by_work=by_work)
    return median_best_so_far(group, by_work=by_work)


def _draw(axes: Axes, curve: Curve, look: Look) -> Any:
    positions, (best, *band) = curve
    if band:
        low, high = band
        axes.fill_between(positions, low, high, step="post", color=look.colour, alpha=0.2, lw=0)
    best = np.where(np.isfinite(best), best, math.nan)
    better = np.flatnonzero(np.isfinite(best) & (np.append(math.nan, best[:-1]) != best))
    [line] = axes.plot(
        positions, best, ds="steps-post", ls=look.line, markevery=better.tolist(), **look.marks
    )
    return line


def _score_axis(axes: Axes, objective: str, values: Sequence[float]) -> None:
    if not values:
        write_note(axes, "No trial was completed")
    elif objective == "accuracy":
        accuracy_axis(axes, "y", values)
        thin_ticks(axes, "y", inches=1.7, least=0.14)
    elif min(values) > 0:
        log_axis(axes, "y", values)


@column_styled
def learning_rates(evidence: Evidence) -> Figure:
    """Draw the score of every trial against its learning rate, one panel per search, with a shared y axis.

    Returns:
        Points, with rings at the library's and the paper's values; a message where ``lr`` was not searched.
    """
    searches = evidence.searches
    if not searches:
        return empty_figure("There are no searches")
    names = [RowKey(search.study, search.optimizer, "best") for search in searches]
    titles = [look.label for look in row_looks(names, evidence.looks).values()]
    objectives = {search.objective for search in searches}
    if len(objectives) > 1:
        titles = [
            f"{title}\n{_SCORES[search.objective]}" for title, search in zip(titles, searches, strict=True)
        ]
    figure, all_axes = panels(
        titles, wide_panel=False, common="y" if len(objectives) == 1 else "", height=1.3
    )
    handles: dict[str, Any] = {}
    for axes, search in zip(all_axes, searches, strict=True):
        same_objective = [other for other in searches if other.objective == search.objective]
        trials = tuple(trial for other in same_objective for trial in other.trials)
        _draw_rates(axes, search, evidence.looks[search.optimizer], all_trials=trials)
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, _legend_entry(handle, name))
    scores = "Validation score" if len(objectives) > 1 else _SCORES[searches[0].objective].capitalize()
    label_axes(all_axes, len(searches), "Learning rate", scores)
    if "accuracy" in objectives:
        set_heading(figure, "The axis of accuracy is logarithmic in the error")
    legend(figure, handles)
    return figure


def _draw_rates(axes: Axes, search: SearchResult, look: Look, all_trials: tuple[Any, ...]) -> None:
    """Draw one search on an axis scaled for the scores of all searches."""
    rates = [dimension for dimension in search.space.search if dimension.name == "lr"]
    if any(trial.score is not None for trial in all_trials):
        score_axis(axes, replace(search, trials=all_trials))
        thin_ticks(axes, "y", inches=1.1, least=0.14)
    if not rates:
        axes.set_xticks([])
        write_in_panel(axes, "The learning rate\nwas not searched")
        return
    positions = draw_slice(axes, search, rates[0], look)
    mark_reference_configs(axes, search, positions)
    for line in axes.lines:
        line.set_markersize(_MARKER_SCALE * line.get_markersize())


def _legend_entry(handle: Any, name: str) -> Line2D:
    """Return a legend entry in grey, which stands for all optimizers."""
    marks = {
        "marker": handle.get_marker(),
        "mfc": handle.get_markerfacecolor(),
        "ms": handle.get_markersize(),
    }
    marks |= {"mec": handle.get_markeredgecolor()}
    if name in ("completed", "chosen"):
        marks |= {"mfc": GREY, "mec": GREY if name == "completed" else INK}
    return Line2D([], [], ls="none", **marks)
