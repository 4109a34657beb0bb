"""The share of seeds that have reached the target accuracy, by epoch and by gradient work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator

from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.look import Look
from optstudy.records.run import CostToTarget
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.rows import empty_figure, legend, row_looks, set_heading, thin_ticks
from optstudy.report.figures.style import column_styled, new_column_figure


@column_styled
def times_to_target(evidence: Evidence) -> Figure:
    """Draw the share of each row's seeds that had reached the target test accuracy, by epoch and by gradient work.

    Args:
        evidence: The runs; rows of studies without a target are omitted.

    Returns:
        Steps in two panels. A run that never reached the target is censored at its end: the curve of a row with such
        runs ends below 100 %, with an open mark at the last censoring.
    """
    rows = {key: row for key, row in evidence.rows().items() if row[0].run.target is not None}
    if not rows:
        return empty_figure("No study has a target")
    figure = new_column_figure(2.0 + 0.1 * len(rows))
    by_epoch, by_work = figure.subplots(1, 2, sharey=True)
    handles: dict[str, Any] = {}
    for look, row in zip(row_looks(rows, evidence.looks).values(), rows.values(), strict=True):
        _draw(by_epoch, row, look, lambda cost: cost.epochs, max(map(_epochs, row)))
        last = max(final.run.gradient_work for final in row)
        handles[look.label] = _draw(by_work, row, look, lambda cost: cost.gradient_work, last)
    for axes, least in ((by_epoch, 0.2), (by_work, 0.28)):
        log_axis(axes, "x", [float(x) for line in axes.lines for x in np.asarray(line.get_xdata()) if x > 0])
        if axes is by_epoch:
            axes.xaxis.set_major_locator(FixedLocator(_whole(axes.xaxis.get_majorticklocs())))
        thin_ticks(axes, "x", inches=1.2, least=least)
        axes.set_ylim(-4, 106)
        axes.set_yticks([0, 25, 50, 75, 100])
    by_epoch.set(xlabel="Epoch", ylabel="Seeds at the target (%)")
    by_work.set_xlabel("Gradient work (mini-batches)")
    by_work.xaxis.set_major_formatter(EngFormatter(sep=""))
    targets = sorted({row[0].run.target or 0.0 for row in rows.values()})
    set_heading(figure, f"Target: test accuracy {' or '.join(f'{100 * target:.5g}' for target in targets)} %")
    legend(figure, handles)
    return figure


def _draw(
    axes: Axes,
    row: Sequence[RunEvidence],
    look: Look,
    measure: Callable[[CostToTarget], float],
    last: float,
) -> Any:
    """Draw the steps of one row; along the lower edge if no seed reached the target."""
    times = sorted(measure(final.run.cost_to_target) for final in row if final.run.cost_to_target is not None)
    xs = sorted(set(times))
    heights = [100 * sum(time <= x for time in times) / len(row) for x in xs]
    marked = list(range(1, 1 + len(xs)))
    xs, heights = [xs[0] if xs else 0.0, *xs], [0.0, *heights]
    censored = len(times) < len(row)
    if censored:
        xs, heights = [*xs, max(last, *xs)], [*heights, heights[-1]]
    [line] = axes.plot(xs, heights, ds="steps-post", ls=look.line, markevery=marked, **look.marks)
    if censored:
        axes.plot(xs[-1:], heights[-1:], ls="none", ms=5, **look.marks | {"markerfacecolor": "white"})
    return line


def _whole(ticks: Sequence[float]) -> list[float]:
    """Return the ticks at whole numbers; all if there are none."""
    return [tick for tick in ticks if float(tick).is_integer()] or list(ticks)


def _epochs(final: RunEvidence) -> float:
    reached = final.run.cost_to_target.epochs if final.run.cost_to_target is not None else 0.0
    return max([reached, *(float(record.epoch) for record in final.epochs)])
