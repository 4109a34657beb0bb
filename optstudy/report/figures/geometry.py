"""Scatter plot of the flatness at the end of each run against its test error."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from optstudy.comparison.table import Comparison, Row
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.look import Look
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.rows import (
    empty_figure,
    label_axes,
    panels,
    row_looks,
    set_heading,
    write_in_panel,
)
from optstudy.report.figures.style import column_styled

_FAR = 8.0  # ratio of largest to smallest error beyond which the axis is logarithmic

Point = tuple[float, float]  # loss rise, test error in per cent


@column_styled
def flatness(evidence: Evidence, comparison: Comparison) -> Figure:
    """Draw the rise of the loss at distance 1 along the first eigenvector against the test error.

    Args:
        evidence: The runs.
        comparison: Their rows, for Kendall's tau-b, which is descriptive.

    Returns:
        A panel for each row, a mark for each seed. A rise that is not positive has no logarithm, and is left out.
    """
    rows = evidence.rows()
    if not rows:
        return empty_figure("There are no runs")
    known = {row.key: row for row in comparison.rows}
    shown, points = row_looks(rows, evidence.looks), {key: _points(row) for key, row in rows.items()}
    titles = [f"{shown[key].label}\n{_tau_label(known.get(key), points[key])}" for key in rows]
    figure, all_axes = panels(titles, below=False)
    for axes, key in zip(all_axes, rows, strict=True):
        _draw(axes, points[key], shown[key])
    drawable = [point for some in points.values() for point in some if point[0] > 0]
    log_axis(all_axes[0], "x", [rise for rise, _ in drawable])
    _error_axis(all_axes[0], [error for _, error in drawable])
    label_axes(all_axes, len(rows), "Loss rise at distance 1", "Test error (%)")
    set_heading(
        figure,
        "One mark per seed; Kendall's \N{GREEK SMALL LETTER TAU}-b is descriptive, not a test",
    )
    return figure


def _points(row: Sequence[RunEvidence]) -> list[Point]:
    ends = [(one.run.curvature, 100 * (1 - one.run.test_accuracy)) for one in row]
    return [(end.loss_rise, error) for end, error in ends if end is not None and math.isfinite(end.loss_rise)]


def _tau_label(row: Row | None, points: Sequence[Point]) -> str:
    if row is None or row.geometry is None:
        return "no run measured"
    flatness = row.geometry.flatness
    tau = "not defined" if math.isnan(flatness.tau) else f"{flatness.tau:.2f}".replace("-", "\N{MINUS SIGN}")
    text = f"\N{GREEK SMALL LETTER TAU}-b {tau}, {flatness.runs} run{'s' * (flatness.runs != 1)}"
    hidden = sum(rise <= 0 for rise, _ in points)
    return f"{text}\n{hidden} without a rise, not shown" if hidden else text


def _draw(axes: Axes, points: Sequence[Point], look: Look) -> None:
    drawable = [point for point in points if point[0] > 0]
    if not drawable:
        write_in_panel(
            axes, "The loss does\nnot rise" if points else "The loss around its\nend was not measured"
        )
        return
    axes.plot(*zip(*drawable, strict=True), linestyle="none", ms=3.5, alpha=0.85, **look.marks)


def _error_axis(axes: Axes, errors: Sequence[float]) -> None:
    if not errors:
        axes.set_yticks([])
    elif 0 < _FAR * min(errors) < max(errors):
        log_axis(axes, "y", errors)
    else:
        margin = max(0.08 * (max(errors) - min(errors)), 0.02)
        axes.set_ylim(max(min(errors) - margin, 0.0), max(errors) + margin)
        axes.yaxis.set_major_locator(MaxNLocator(4))
