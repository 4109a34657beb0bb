"""The geometry table: eigenvalues, ratio, verdicts and signs, trace, loss rise, and tau with the test error, by row."""

import math
from collections.abc import Mapping, Sequence

from optstudy.comparison.summaries import GeometrySummary
from optstudy.comparison.table import Comparison, Row
from optstudy.report.tables.table import (
    UNKNOWN,
    Column,
    Table,
    format_number,
    number_column,
    optional_cells,
    reasons_label,
    row_columns,
    text_column,
)
from optstudy.statistics import Interval

_SIGNS = " Signs are those of the first eigenvalue over the second, open where they are uncertain."
FEWEST_RANKED = 5  # runs; with fewer a rank correlation is meaningless


def geometry_table(comparison: Comparison) -> Table:
    """Return the table of the curvature at the end of training."""
    geometries = [row.geometry for row in comparison.rows]
    signs = _sign_columns(geometries)
    columns = [
        *row_columns(comparison),
        number_column("Runs", (str(summary.runs) if summary else "0" for summary in geometries)),
        number_column(
            "First eigenvalue", optional_cells(geometries, lambda summary: _interval(summary.lambda_1))
        ),
        number_column("Second", optional_cells(geometries, lambda summary: _interval(summary.lambda_2))),
        number_column("Ratio", optional_cells(geometries, lambda summary: _interval(summary.ratio))),
        text_column("Verdicts", optional_cells(geometries, lambda summary: _counts(summary.verdicts))),
        *signs,
        number_column(
            "Steps separated", optional_cells(geometries, lambda summary: _share(summary.separated.mean))
        ),
        number_column("Trace", optional_cells(geometries, lambda summary: _interval(summary.trace))),
        number_column("Loss rise", optional_cells(geometries, lambda summary: _interval(summary.loss_rise))),
        number_column("tau", optional_cells(geometries, _tau)),
    ]
    if any(row.missing_curvature or row.missing_trace for row in comparison.rows):
        columns.append(text_column("Missing", (_missing(row) or UNKNOWN for row in comparison.rows)))
    caption = (
        "Means over the runs where curvature was measured, ± half the width of the 95 % Student t interval over"
        " seeds, on each study's own sample. Verdicts are those of each run's ratio."
        f"{_SIGNS * bool(signs)} Steps separated is the share of the last steps of training with the verdict separated."
        " Eigenvalues keep their signs. Loss rise is how much"
        " the loss rises at distance 1 along the first eigenvector, as a mean of both sides. tau is Kendall's tau-b of"
        " that rise with the test error over these runs alone, where there are 5 or more: it is descriptive, and no"
        " evidence that flatness matters."
    )
    caption = " ".join([caption, *missing_sentences(comparison)])
    return Table(tuple(columns), caption, "tab:geometry")


def missing_sentences(comparison: Comparison) -> list[str]:
    """Name the rows with runs whose curvature could not be measured, and why; none if there are no such runs."""
    rows = [(comparison.looks.row_label(row.key), _missing(row)) for row in comparison.rows]
    missing = "; ".join(f"{label}, {reasons}" for label, reasons in rows if reasons)
    return [f"Curvature that could not be measured is missing: {missing}."] if missing else []


def _missing(row: Row) -> str:
    parts = {"at the end": row.missing_curvature, "over the last steps": row.missing_trace}
    return "; ".join(f"{part}: {reasons_label('run', counts)}" for part, counts in parts.items() if counts)


def _sign_columns(geometries: Sequence[GeometrySummary | None]) -> list[Column]:
    """Return the column of signs; none if no run has recorded its sign."""
    if not any(summary and summary.signs for summary in geometries):
        return []
    cells = optional_cells(geometries, lambda summary: _counts(summary.signs) or "not recorded")
    return [text_column("Signs", cells)]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _tau(geometry: GeometrySummary) -> str:
    return format_number(geometry.flatness.tau, "+.2f") if geometry.runs >= FEWEST_RANKED else UNKNOWN


def _interval(interval: Interval) -> str:
    if not math.isfinite(interval.mean):
        return UNKNOWN
    half = interval.half_width
    return f"{interval.mean:.3g}" + (f" ± {half:.2g}" if half is not None else "")


def _share(value: float) -> str:
    """Format a share in per cent: 100 only for all, and 0 only for none."""
    if not math.isfinite(value):
        return UNKNOWN
    if value not in (0.0, 1.0) and round(100 * value) in (0, 100):
        return "< 1 %" if value < 0.5 else "> 99 %"  # noqa: PLR2004
    return f"{100 * value:.0f} %"
