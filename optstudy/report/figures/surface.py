"""The loss surface around the end of a row's run with the median loss rise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from optstudy.records.evidence import RunEvidence
from optstudy.report.figures.curvature import draw_plane
from optstudy.report.figures.rows import LINE_WIDTH, empty_figure, escape_math, set_heading, wrap
from optstudy.report.figures.style import column_styled, new_column_figure


@column_styled
def loss_surface(row: Sequence[RunEvidence], title: str) -> Figure:
    """Draw the loss over the plane of the first two eigenvectors, figures 8 to 11 of the paper.

    Planes of different seeds have different axes and cannot be averaged: the seed with the median loss rise at
    distance 1 is drawn, the lower of two middle seeds.

    Args:
        row: Runs of one row, at least one.
        title: Title, usually the label of the row.

    Returns:
        The surface above its contours.
    """
    heading = wrap(escape_math(title), LINE_WIDTH)
    median = _median_run(row)
    if median is None or median.curvature is None:
        return empty_figure(f"{heading}\nThe loss around its end was not measured")
    result = median.curvature
    figure = new_column_figure(4.9)
    grid = figure.add_gridspec(2, 1, height_ratios=[1.1, 1])
    surface = figure.add_subplot(grid[0], projection="3d")
    surface.set_xlabel("Along 1st", labelpad=-6)
    surface.set_ylabel("Along 2nd", labelpad=-6)
    surface.set_zlabel("Loss", labelpad=2)
    surface.locator_params(nbins=4)
    surface.tick_params(pad=-3)
    surface.tick_params(axis="z", pad=1)
    surface.set_box_aspect((4, 4, 3), zoom=0.95)
    flat = figure.add_subplot(grid[1], aspect="equal")
    filled = draw_plane(
        surface, flat, (result.distances, result.distances), result.plane, linewidths=0.3, markersize=5
    )
    flat.set(xlabel="Distance along the 1st eigenvector", ylabel="Distance along the 2nd")
    bar = figure.colorbar(filled, ax=flat, shrink=0.9, format="%.2g")
    bar.ax.set_title("Loss", loc="left", pad=7)
    seed = f"seed {median.run.seed}" + f", the median rise of {len(row)} seeds" * (len(row) > 1)
    set_heading(figure, f"{heading}: {seed}\nloss on {result.samples:,} training examples around its end (+)")
    return figure


def _median_run(row: Sequence[RunEvidence]) -> RunEvidence | None:
    """Return the run with the median loss rise; None if no plane was measured."""
    with np.errstate(invalid="ignore"):  # an infinite loss has no rise
        measured = [
            (final.curvature.loss_rise, final)
            for final in row
            if final.curvature and final.curvature.plane.size
        ]
    finite = [pair for pair in measured if math.isfinite(pair[0])]
    ordered = sorted(finite, key=lambda pair: pair[0]) or measured
    return ordered[(len(ordered) - 1) // 2][1] if ordered else None
