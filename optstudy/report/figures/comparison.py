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
from optstudy.records.look import Looks
from optstudy.report.figures.axes import accuracy_axis
from optstudy.report.figures.rows import (
    LINE,
    RowStyle,
    empty,
    escape_math,
    legend,
    row_styles,
    set_heading,
    thin_ticks,
    wrapped,
)
from optstudy.report.figures.style import GREY, INK, column, column_styled

_NAME = 18  # letters of a name beside the axes
_FAR = 8.0  # times the least error; where the largest is further off, the axis is logarithmic
_VERDICTS: dict[str, dict[str, Any]] = {
    "better": {"marker": "o", "markerfacecolor": INK},
    "worse": {"marker": "o", "markerfacecolor": INK},
    "equivalent": {"marker": "s", "markerfacecolor": INK},
    "no difference shown": {"marker": "o", "markerfacecolor": "white"},
    "too few seeds": {"marker": "x"},
}


@column_styled
def accuracies(comparison: Comparison, evidence: Evidence) -> Figure:
    """Draw the test accuracy of every row, a line each.

    Args:
        comparison: The rows.
        evidence: Their runs, for the single seeds.

    Returns:
        Seeds as dots above the mean with Student's 95 % interval over them; below it, thin, Wilson's interval of the
        test images; the paper's value where there is one. The axis is logarithmic in the error where errors are
        far apart.
    """
    if not comparison.rows:
        return empty("There are no runs")
    shown = row_styles((row.key for row in comparison.rows), comparison.looks)
    seeds = {key: [100 * one.run.test_accuracy for one in row] for key, row in evidence.rows().items()}
    written = [wrapped(look.name, _NAME) for look in shown.values()]
    tallest = max(name.count("\n") for name in written)
    drawn = column(0.75 + (0.36 + 0.09 * max(0, tallest - 2)) * len(comparison.rows))
    axes = drawn.add_subplot()
    values: list[float] = []
    for place, row in enumerate(comparison.rows):
        values += _accuracy(axes, place, row, shown[row.key], seeds.get(row.key, []))
    _names(axes, written)
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
        handles["95 % interval over test images"] = axes.plot([], [], color=GREY, lw=0.7, marker="|", ms=4)[0]
    if any(row.test_accuracy.paper is not None for row in comparison.rows):
        keys["color"] = INK
        handles["the paper's, one seed"] = axes.plot([], [], marker="*", mfc="white", ms=6, **keys)[0]
    legend(drawn, handles)
    return drawn


def _accuracy(axes: Axes, place: int, row: Row, look: RowStyle, seeds: Sequence[float]) -> list[float]:
    """Draw one row and return the values that the axis must hold."""
    found = row.test_accuracy
    mean, values = 100 * found.mean, [100 * found.mean, *seeds]
    axes.plot(seeds, [place - 0.25] * len(seeds), ".", color=look.colour, alpha=0.7, mew=0, ms=4)
    if found.low is not None and found.high is not None:
        ends = [100 * found.low, min(100 * found.high, 100.0)]
        axes.plot(ends, [place, place], color=look.colour, lw=1.6, solid_capstyle="butt")
        values += ends
    axes.plot([mean], [place], ms=4, **look.marks)
    if row.images is not None:
        ends = [100 * row.images.low, 100 * row.images.high]
        axes.plot(ends, [place + 0.25] * 2, color=look.colour, lw=0.7, marker="|", ms=4)
        values += ends
    if found.paper is not None:
        axes.plot([100 * found.paper], [place - 0.25], marker="*", color=INK, mfc="white", ms=6)
        values.append(100 * found.paper)
    return values


def _percent_axis(axes: Axes, values: Sequence[float]) -> None:
    errors = [max(100 - value, 0.01) for value in values]
    axes.set_xlabel("Test accuracy (%)")
    if max(errors) > _FAR * min(errors):
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
    """Draw the difference in test accuracy of every pair, a panel a study.

    Args:
        comparison: The pairs.
        margin: Difference, a fraction, inside which two optimizers count as equivalent.

    Returns:
        The first one's accuracy minus the second's in points with Bonferroni's interval, the margin as a strip, and
        at the right what may be said of the first.
    """
    if not comparison.pairs:
        return empty("There are no pairs to compare")
    families = [
        [pair for pair in comparison.pairs if pair.study == study]
        for study in dict.fromkeys(pair.study for pair in comparison.pairs)
    ]
    sizes = [len(pairs) for pairs in families]
    tallest = max(_named(pair, comparison.looks).count("\n") for pair in comparison.pairs)
    drawn = column(0.75 + (0.28 + 0.09 * max(0, tallest - 1)) * sum(sizes) + 0.2 * len(sizes))
    found = drawn.subplots(len(families), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, pairs in zip(found, families, strict=True):
        _pairs(axes, pairs, margin, comparison.looks)
        if len(families) > 1:
            axes.set_title(wrapped(escape_math(pairs[0].study), LINE))
    found[-1].set_xlabel("Difference in test accuracy (points)")
    found[-1].xaxis.set_major_locator(MaxNLocator(5))
    known = any(not math.isnan(pair.test.low) for pair in comparison.pairs)
    intervals = ", with Bonferroni's 95 % intervals" if known else ""
    set_heading(
        drawn, f"First minus second{intervals};\ngrey: the margin of equivalence, {100 * margin:g} points"
    )
    return drawn


def _pairs(axes: Axes, pairs: Sequence[Pair], margin: float, looks: Looks) -> None:
    axes.axvspan(-100 * margin, 100 * margin, color="#dddddd", lw=0)
    axes.axvline(0, color=INK, lw=0.7, ls=(0, (4, 3)))
    for place, pair in enumerate(pairs):
        test = pair.test
        if not math.isnan(test.low):
            axes.plot([100 * test.low, 100 * test.high], [place] * 2, color=INK)
        axes.plot([100 * test.difference.mean], [place], color=INK, ms=4, **_VERDICTS[test.verdict])
        side = axes.get_yaxis_transform()
        axes.text(1.03, place, wrapped(test.verdict, 13), transform=side, va="center", fontsize=6)
    _names(axes, [_named(pair, looks) for pair in pairs])
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


def _named(pair: Pair, looks: Looks) -> str:
    return wrapped(escape_math(f"{looks.row(pair.a)} \N{MINUS SIGN} {looks.row(pair.b)}"), _NAME)


def _names(axes: Axes, names: Sequence[str]) -> None:
    """Name the lines of the axes, the first on top."""
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
