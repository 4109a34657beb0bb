"""Confusion matrices of the test images: of one run, and the mean over the seeds of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from optstudy.records.evidence import RunEvidence
from optstudy.report.figures.rows import LINE, empty_figure, escape_math, set_heading, wrap
from optstudy.report.figures.style import INK, column_styled, new_column_figure, new_figure, styled
from optstudy.report.tables.table import count_label

_MOST_NUMBERED = 20  # classes; with more, the numbers in the cells could not be read
_MOST_IN_COLUMN = 12  # the same where the figure is as wide as a paper's column
_LONGEST = 14  # letters of a class's name there
_LEAST = 0.05  # per cent; what is smaller would be written as 0.0
_DARK = 40  # per cent; ink on a darker cell could not be read
_MOST_NAMED = 40  # classes; with more, only some are named along the axes


@styled
def confusion(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str], title: str) -> Figure:
    """Draw the confusion matrix as a heat map, each row as shares of its true class (paper, figures 4 to 7).

    Colours follow the square root of the share, so that errors of a few per cent are visible.

    Args:
        labels: True classes, integers from 0, shape ``(n,)``, ``n`` at least 1.
        predicted: Predicted classes, likewise.
        classes: Names, in the order of the integers.
        title: Title, usually the name of the run.

    Returns:
        The heat map, with per cent in the cells up to 20 classes; a cell without a number is exactly 0, and
        the row of a class that has no image is grey.
    """
    shares = _shares(np.asarray(labels), np.asarray(predicted), len(classes))
    side = min(max(0.45 * len(classes), 2.2), 9.0)
    figure = new_figure(side + 1.6, side + 0.9)
    axes = figure.add_subplot(xlabel="Predicted class", ylabel="True class")
    axes.set_title(f"{title}\ntest images" if title else "Test images")
    percents = np.ma.masked_invalid(100 * shares)
    bar = _heat(axes, percents, shrink=0.8, aspect=10 + 3 * side)
    bar.set_ticks([0, 1, 5, 20, 50, 100])
    _name(axes, classes)
    if len(classes) <= _MOST_NUMBERED:
        _number(axes, percents)
    return figure


@column_styled
def mean_confusion(row: Sequence[RunEvidence], title: str) -> Figure:
    """Draw the mean confusion matrix of a row's seeds, each seed's rows as shares of their true class.

    Args:
        row: Runs of one row, at least one.
        title: Title, usually the label of the row.

    Returns:
        The heat map in the width of a paper's column, with per cent in the cells up to 12 classes, those below 0.05
        without a number; the row of a class that has no image is grey.
    """
    run = row[0].run
    heading = wrap(escape_math(title), LINE)
    known = [one.predictions for one in row if one.predictions is not None and len(one.predictions.labels)]
    if not known:
        return empty_figure(f"{heading}\nNo predictions were recorded")
    names = max((one.classes for one in known), key=len)
    count = max(len(names), *(1 + int(max(one.labels.max(), one.predicted.max())) for one in known))
    classes = [*names, *map(str, range(len(names), count))]
    shares = np.ma.masked_invalid([_shares(one.labels, one.predicted, count) for one in known])
    percents = np.ma.masked_array(100 * shares.mean(axis=0))
    figure = new_column_figure(3.75)
    axes = figure.add_subplot(xlabel="Predicted class", ylabel="True class")
    bar = _heat(axes, percents, location="bottom", aspect=30, fraction=0.05, pad=0.02)
    bar.set_ticks([0, 1, 5, 20, 50, 100])
    _name(axes, [_shortened(name) for name in classes])
    if count <= _MOST_IN_COLUMN:
        _number(axes, percents, fontsize=5.5, least=_LEAST)
    over = f"mean over {count_label('seed', [len(known)])}" if len(known) > 1 else f"seed {run.seed}"
    set_heading(
        figure,
        f"{heading}\n{over}, test images; no number: below {_LEAST} %"
        if count <= _MOST_IN_COLUMN
        else f"{heading}\n{over}, test images",
    )
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _heat(axes: Axes, percents: np.ma.MaskedArray, **bar: Any) -> Colorbar:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#e0e0e0")
    image = axes.imshow(percents, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
    figure = axes.get_figure()
    assert figure is not None
    colorbar = figure.colorbar(image, label="Share of the true class (%)", **bar)
    colorbar.outline.set_visible(False)
    return colorbar


def _shares(labels: NDArray[np.int_], predicted: NDArray[np.int_], classes: int) -> NDArray[np.float64]:
    from sklearn.metrics import confusion_matrix  # a second to import, needed here alone

    shares = np.array(confusion_matrix(labels, predicted, labels=range(classes), normalize="true"))
    shares[np.bincount(labels, minlength=classes) == 0] = np.nan  # sklearn returns 0
    return shares


def _name(axes: Axes, classes: Sequence[str]) -> None:
    shown = range(0, len(classes), 1 + len(classes) // _MOST_NAMED)
    names = [classes[number].replace("$", r"\$") for number in shown]  # not mathematics
    slanted = max(map(len, names)) > 2  # noqa: PLR2004 - two letters fit the width of a cell
    axes.set_yticks(shown, names)
    axes.set_xticks(shown, names, rotation=90 if slanted else 0)
    axes.tick_params(length=0)


def _number(axes: Axes, percents: np.ma.MaskedArray, fontsize: float = 7, least: float = 0) -> None:
    for (true, guess), percent in np.ndenumerate(percents.filled(0)):
        if percent > 0 and percent >= least:
            colour = "white" if percent > _DARK else INK
            axes.text(guess, true, _short(percent), ha="center", va="center", fontsize=fontsize, color=colour)


def _short(percent: float) -> str:
    """Format a share with one decimal: 100 only for all, and never 0 for some."""
    if percent < _LEAST:
        return "<0.1"
    return "100" if round(percent, 9) == 100 else f"{min(percent, 99.9):.1f}"  # noqa: PLR2004 - per cent
