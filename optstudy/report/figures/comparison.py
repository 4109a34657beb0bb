"""Figures of the comparison: the test accuracy of every row, and the difference of every pair, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from optstudy.comparison.pairs import Pair
from optstudy.comparison.table import Comparison, Row
from optstudy.records.evidence import Evidence
from optstudy.records.look import Look, Looks
from optstudy.report.figures.axes import accuracy_axis
from optstudy.report.figures.rows import (
    LINE_WIDTH,
    empty_figure,
    escape_math,
    legend,
    row_looks,
    set_heading,
    thin_ticks,
    wrap,
)
from optstudy.report.figures.style import GREY, INK, column_styled, new_column_figure

_LABEL_WIDTH = 18  # characters per line of a label beside the axes
_LOG_RATIO = 8.0  # the axis is logarithmic if the largest error exceeds this multiple of the smallest
_VERDICTS: dict[str, dict[str, Any]] = {
    "better": {"marker": "o", "markerfacecolor": INK},
    "worse": {"marker": "o", "markerfacecolor": INK},
    "equivalent": {"marker": "s", "markerfacecolor": INK},
    "no difference shown": {"marker": "o", "markerfacecolor": "white"},
    "too few seeds": {"marker": "x"},
}


@column_styled
def accuracies(comparison: Comparison, evidence: Evidence) -> Figure:
    """Draw the test accuracy of every row.

    Args:
        comparison: The rows.
        evidence: Their runs, which are drawn as seeds.

    Returns:
        Seeds as dots above their mean with Student's 95 % interval; below it, Wilson's interval over the test images as
        a thin line; the paper's value if there is one. The axis is logarithmic in the error if errors are far apart.
    """
    if not comparison.rows:
        return empty_figure("There are no runs")
    shown = row_looks((row.key for row in comparison.rows), comparison.looks)
    seeds = {key: [100 * final.run.test_accuracy for final in row] for key, row in evidence.rows().items()}
    labels = [wrap(look.label, _LABEL_WIDTH) for look in shown.values()]
    tallest = max(label.count("\n") for label in labels)
    figure = new_column_figure(0.75 + (0.36 + 0.09 * max(0, tallest - 2)) * len(comparison.rows))
    axes = figure.add_subplot()
    values: list[float] = []
    for index, row in enumerate(comparison.rows):
        values += _draw_accuracy(axes, index, row, shown[row.key], seeds.get(row.key, []))
    _label_rows(axes, labels)
    axes.grid(visible=False, axis="y")
    _percent_axis(axes, values)
    keys: dict[str, Any] = {"color": GREY, "linestyle": "none"}
    handles: dict[str, Any] = {}
    if any(seeds.values()):
        handles["one seed"] = axes.plot([], [], marker=".", ms=4, **keys)[0]
    over_seeds = any(row.test_accuracy.low is not None for row in comparison.rows)
    mean = "mean with 95 % interval over seeds" if over_seeds else "mean"
    handles[mean] = axes.plot([], [], color=GREY, marker="o", lw=1.6 * over_seeds, ms=4)[0]
    if any(row.images is not None for row in comparison.rows):
        handles["95 % interval over test examples"] = axes.plot([], [], color=GREY, lw=0.7, marker="|", ms=4)[
            0
        ]
    if any(row.paper for row in comparison.rows):
        keys["color"] = INK
        handles["the paper's, one seed"] = axes.plot([], [], marker="*", mfc="white", ms=6, **keys)[0]
    legend(figure, handles)
    return figure


def _draw_accuracy(axes: Axes, index: int, row: Row, look: Look, seeds: Sequence[float]) -> list[float]:
    """Draw one row and return its values, for the limits of the axis."""
    accuracy = row.test_accuracy
    mean, values = 100 * accuracy.mean, [100 * accuracy.mean, *seeds]
    axes.plot(seeds, [index - 0.25] * len(seeds), ".", color=look.colour, alpha=0.7, mew=0, ms=4)
    if accuracy.low is not None and accuracy.high is not None:
        ends = [100 * accuracy.low, min(100 * accuracy.high, 100.0)]
        axes.plot(ends, [index, index], color=look.colour, lw=1.6, solid_capstyle="butt")
        values += ends
    axes.plot([mean], [index], ms=4, **look.marks)
    if row.images is not None:
        ends = [100 * row.images.low, 100 * row.images.high]
        axes.plot(ends, [index + 0.25] * 2, color=look.colour, lw=0.7, marker="|", ms=4)
        values += ends
    if row.paper is not None:
        axes.plot([100 * row.paper[1]], [index - 0.25], marker="*", color=INK, mfc="white", ms=6)
        values.append(100 * row.paper[1])
    return values


def _percent_axis(axes: Axes, values: Sequence[float]) -> None:
    errors = [max(100 - value, 0.01) for value in values]
    axes.set_xlabel("Test accuracy (%)")
    if max(errors) > _LOG_RATIO * min(errors):
        accuracy_axis(axes, "x", values)
        thin_ticks(axes, "x", inches=2.2, least=0.3)
        axes.set_xlabel("Test accuracy (%), logarithmic in the error")
        return
    margin = max(0.06 * (max(values) - min(values)), 0.02)
    axes.set_xlim(min(values) - margin, max(values) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


@column_styled
def differences(comparison: Comparison, *, margin: float) -> Figure:
    """Draw the difference in test accuracy of every pair, one panel per study.

    Args:
        comparison: The pairs.
        margin: Equivalence margin, a fraction.

    Returns:
        The accuracy of the first row of each pair minus that of the second, in points, with Bonferroni's interval; the
        margin as a strip; and the verdict for the first row.
    """
    if not comparison.pairs:
        return empty_figure("There are no pairs to compare")
    families = [
        [pair for pair in comparison.pairs if pair.study == study]
        for study in dict.fromkeys(pair.study for pair in comparison.pairs)
    ]
    sizes = [len(pairs) for pairs in families]
    tallest = max(_pair_label(pair, comparison.looks).count("\n") for pair in comparison.pairs)
    figure = new_column_figure(0.75 + (0.28 + 0.09 * max(0, tallest - 1)) * sum(sizes) + 0.2 * len(sizes))
    all_axes = figure.subplots(len(families), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, pairs in zip(all_axes, families, strict=True):
        _draw_pairs(axes, pairs, margin, comparison.looks)
        if len(families) > 1:
            axes.set_title(wrap(escape_math(pairs[0].study), LINE_WIDTH))
    all_axes[-1].set_xlabel("Difference in test accuracy (points)")
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(5))
    has_intervals = any(not math.isnan(pair.test.low) for pair in comparison.pairs)
    intervals = ", with Bonferroni's 95 % intervals" if has_intervals else ""
    set_heading(
        figure, f"First minus second{intervals};\ngrey: the margin of equivalence, {100 * margin:g} points"
    )
    return figure


def _draw_pairs(axes: Axes, pairs: Sequence[Pair], margin: float, looks: Looks) -> None:
    axes.axvspan(-100 * margin, 100 * margin, color="#dddddd", lw=0)
    axes.axvline(0, color=INK, lw=0.7, ls=(0, (4, 3)))
    for index, pair in enumerate(pairs):
        test = pair.test
        if not math.isnan(test.low):
            axes.plot([100 * test.low, 100 * test.high], [index] * 2, color=INK)
        axes.plot([100 * test.difference.mean], [index], color=INK, ms=4, **_VERDICTS[test.verdict])
        side = axes.get_yaxis_transform()
        axes.text(1.03, index, wrap(test.verdict, 13), transform=side, va="center", fontsize=6)
    _label_rows(axes, [_pair_label(pair, looks) for pair in pairs])
    axes.text(
        1.03,
        -0.75,
        "Verdict for the first",
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=6,
        style="italic",
    )
    axes.grid(visible=False, axis="y")


def _pair_label(pair: Pair, looks: Looks) -> str:
    return wrap(
        escape_math(f"{looks.row_label(pair.a)} \N{MINUS SIGN} {looks.row_label(pair.b)}"), _LABEL_WIDTH
    )


def _label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label the rows of the axes, the first at the top."""
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
