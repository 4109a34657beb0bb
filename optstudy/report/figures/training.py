"""The gradient norm of one run by epoch."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from optstudy.records.look import PLAIN, Look
from optstudy.records.run import EpochRecord
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.style import INK, new_figure, styled, write_note


@styled
def gradient_norm(records: Sequence[EpochRecord], title: str, look: Look = PLAIN) -> Figure:
    """Draw the norm of the gradient at the end of each epoch, figure 1 of the paper.

    Args:
        records: The epochs of one run, in order.
        title: Title, usually the name of the run.
        look: Look of its optimizer; black by default.

    Returns:
        The last mini-batch's norm as a line, the full gradient's as points where it was measured, and a cross
        at the lower edge for each epoch whose norm is not finite. A norm of exactly 0 has no logarithm and
        leaves a gap.
    """
    figure = new_figure(5.2, 3.2)
    axes = figure.add_subplot(title=title, xlabel="Epoch", ylabel="Euclidean norm of the gradient")
    batch = [record.gradient_norm or math.nan for record in records]
    full = {record.epoch: record.full_gradient_norm for record in records if record.full_gradient_norm}
    nonfinite = [record.epoch for record in records if record.gradient_norm is None]
    norms = [norm for norm in (*batch, *full.values()) if not math.isnan(norm)]
    if not norms:
        axes.set_xticks([])
        write_note(axes, "No finite gradient norm was recorded")
        return figure
    epochs = [record.epoch for record in records]
    # Markers at every epoch would hide a long line, but between gaps a marker may be all that is visible of it.
    axes.plot(
        epochs,
        batch,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markersize=3,
        markevery=1 if nonfinite else 1 + len(epochs) // 30,
        label="last mini-batch",
    )
    if full:
        axes.plot([*full], [*full.values()], "h", color=INK, mfc="white", ms=6, label="all training examples")
    if nonfinite:
        edge = axes.get_xaxis_transform()
        axes.plot(nonfinite, [0.03] * len(nonfinite), "x", color=INK, transform=edge, label="not finite")
    log_axis(axes, "y", norms)
    margin = max(0.5, len(epochs) / 40)
    axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure
