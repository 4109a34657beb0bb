"""The geometry table: first eigenvalues, ratio and verdicts, trace, loss rise, and tau with the test error, by row."""

import math

from optstudy.comparison.summaries import Geometry
from optstudy.comparison.table import Comparison
from optstudy.report.tables.table import UNKNOWN, Table, known, number, numbers, row_columns, words
from optstudy.statistics import Interval

FEWEST_RANKED = 5  # runs; of fewer a rank correlation describes nothing


def geometry_table(comparison: Comparison) -> Table:
    """Write the curvature where the seeds ended."""
    found = [row.geometry for row in comparison.rows]
    columns = [
        *row_columns(comparison),
        numbers("Runs", (str(one.runs) if one else "0" for one in found)),
        numbers("First eigenvalue", known(found, lambda one: _interval(one.lambda_1))),
        numbers("Second", known(found, lambda one: _interval(one.lambda_2))),
        numbers("Ratio", known(found, lambda one: _interval(one.ratio))),
        words("Verdicts", known(found, _verdicts)),
        numbers("Steps separated", known(found, lambda one: _share(one.separated.mean))),
        numbers("Trace", known(found, lambda one: _interval(one.trace))),
        numbers("Loss rise", known(found, lambda one: _interval(one.loss_rise))),
        numbers("tau", known(found, _tau)),
    ]
    under = (
        "Means over the runs where curvature was measured, ± half the width of the 95 % Student t interval over"
        " seeds, on each study's own sample. Verdicts are of the ratio in each run, and a step is"
        " separated where its ratio is during the last steps of training. Eigenvalues keep their signs. Loss rise is"
        " how much the loss rises at distance 1 along the first eigenvector, mean of both sides. tau is Kendall's tau-b"
        " of that rise with the test error over these runs alone, where there are 5 or more:"
        " it describes them, and proves nothing of flatness."
    )
    return Table(tuple(columns), under, "tab:geometry")


def _verdicts(found: Geometry) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())


def _tau(found: Geometry) -> str:
    return number(found.flatness.tau, "+.2f") if found.runs >= FEWEST_RANKED else UNKNOWN


def _interval(interval: Interval) -> str:
    if not math.isfinite(interval.mean):
        return UNKNOWN
    half = interval.half_width
    return f"{interval.mean:.3g}" + (f" ± {half:.2g}" if half is not None else "")


def _share(value: float) -> str:
    """Write a share in per cent, but 100 only for all of it and 0 only for nothing."""
    if not math.isfinite(value):
        return UNKNOWN
    if value not in (0.0, 1.0) and round(100 * value) in (0, 100):
        return "< 1 %" if value < 0.5 else "> 99 %"  # noqa: PLR2004
    return f"{100 * value:.0f} %"
