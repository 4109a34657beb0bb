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

_LOG_RATIO = 8.0  # the axis is logarithmic if the largest error exceeds this multiple of the smallest

Point = tuple[float, float]  # loss rise, test error in per cent


@column_styled
def flatness(evidence: Evidence, comparison: Comparison) -> Figure:
    """Draw the rise of the loss at distance 1 along the first eigenvector against the test error.

    Args:
        evidence: The runs.
        comparison: Their rows, with Kendall's tau-b.

    Returns:
        A panel for each row, a marker for each seed. A rise that is not positive has no logarithm and is omitted.
    """
    rows = evidence.rows()
    if not rows:
        return empty_figure("There are no runs")
    summaries = {row.key: row for row in comparison.rows}
    shown, points = row_looks(rows, evidence.looks), {key: _points(row) for key, row in rows.items()}
    titles = [f"{shown[key].label}\n{_tau_label(summaries.get(key), points[key])}" for key in rows]
    figure, all_axes = panels(titles, wide_panel=False)
    for axes, key in zip(all_axes, rows, strict=True):
        _draw(axes, points[key], shown[key])
    drawable = [point for row_points in points.values() for point in row_points if point[0] > 0]
    log_axis(all_axes[0], "x", [rise for rise, _ in drawable])
    _error_axis(all_axes[0], [error for _, error in drawable])
    label_axes(all_axes, len(rows), "Loss rise at distance 1", "Test error (%)")
    set_heading(
        figure,
        "One mark per seed; Kendall's \N{GREEK SMALL LETTER TAU}-b is descriptive, not a test",
    )
    return figure


def _points(row: Sequence[RunEvidence]) -> list[Point]:
    pairs = [(final.run.curvature, 100 * (1 - final.run.test_accuracy)) for final in row]
    return [
        (curvature.loss_rise, error)
        for curvature, error in pairs
        if curvature is not None and math.isfinite(curvature.loss_rise)
    ]


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
    elif 0 < _LOG_RATIO * min(errors) < max(errors):
        log_axis(axes, "y", errors)
    else:
        margin = max(0.08 * (max(errors) - min(errors)), 0.02)
        axes.set_ylim(max(min(errors) - margin, 0.0), max(errors) + margin)
        axes.yaxis.set_major_locator(MaxNLocator(4))
