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
from optstudy.report.figures.rows import LINE_WIDTH, empty_figure, escape_math, set_heading, wrap
from optstudy.report.figures.style import INK, column_styled, new_column_figure, new_figure, styled
from optstudy.report.tables.table import count_label

_MAX_NUMBERED = 20  # classes; with more, numbers in the cells would be unreadable
_MAX_NUMBERED_IN_COLUMN = 12  # likewise, in a figure as wide as a paper's column
_MAX_NAME = 14  # characters of a class name, likewise
_SMALLEST_SHARE = 0.05  # per cent; smaller shares would be printed as 0.0
_DARK_SHARE = 40  # per cent; numbers on darker cells are white
_MAX_LABELLED = 40  # classes; with more, only some are labelled along the axes


@styled
def confusion(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str], title: str) -> Figure:
    """Draw the confusion matrix as a heat map, each row as shares of its true class (paper, figures 4 to 7).

    Colours follow the square root of the share, so that errors of a few per cent are visible.

    Args:
        labels: True classes, integers from 0, shape ``(n,)``, ``n`` at least 1.
        predicted: Predicted classes, of the same form.
        classes: Names, in the order of the integers.
        title: Title, usually the name of the run.

    Returns:
        The heat map. With up to 20 classes, the cells contain percentages; cells without a number are
        exactly 0. The row of a class without images is grey.
    """
    shares = _shares(np.asarray(labels), np.asarray(predicted), len(classes))
    side = min(max(0.45 * len(classes), 2.2), 9.0)
    figure = new_figure(side + 1.6, side + 0.9)
    axes = figure.add_subplot(xlabel="Predicted class", ylabel="True class")
    axes.set_title(f"{title}\ntest examples" if title else "Test examples")
    percents = np.ma.masked_invalid(100 * shares)
    bar = _draw_matrix(axes, percents, shrink=0.8, aspect=10 + 3 * side)
    bar.set_ticks([0, 1, 5, 20, 50, 100])
    _label_classes(axes, classes)
    if len(classes) <= _MAX_NUMBERED:
        _print_shares(axes, percents)
    return figure


@column_styled
def mean_confusion(row: Sequence[RunEvidence], title: str) -> Figure:
    """Draw the mean confusion matrix of a row's seeds, where each true class sums to 100 %.

    Args:
        row: Runs of one row, at least one.
        title: Title, usually the label of the row.

    Returns:
        The heat map in the width of a paper's column. With up to 12 classes, the cells contain percentages,
        except those below 0.05; the row of a class without images is grey.
    """
    run = row[0].run
    heading = wrap(escape_math(title), LINE_WIDTH)
    predictions = [
        final.predictions for final in row if final.predictions is not None and len(final.predictions.labels)
    ]
    if not predictions:
        return empty_figure(f"{heading}\nNo predictions were recorded")
    names = max((seed.classes for seed in predictions), key=len)
    count = max(len(names), *(1 + int(max(seed.labels.max(), seed.predicted.max())) for seed in predictions))
    classes = [*names, *map(str, range(len(names), count))]
    shares = np.ma.masked_invalid([_shares(seed.labels, seed.predicted, count) for seed in predictions])
    percents = np.ma.masked_array(100 * shares.mean(axis=0))
    figure = new_column_figure(3.75)
    axes = figure.add_subplot(xlabel="Predicted class", ylabel="True class")
    bar = _draw_matrix(axes, percents, location="bottom", aspect=30, fraction=0.05, pad=0.02)
    bar.set_ticks([0, 1, 5, 20, 50, 100])
    _label_classes(axes, [_shorten(name) for name in classes])
    if count <= _MAX_NUMBERED_IN_COLUMN:
        _print_shares(axes, percents, fontsize=5.5, least=_SMALLEST_SHARE)
    over = (
        f"mean over {count_label('seed', [len(predictions)])}" if len(predictions) > 1 else f"seed {run.seed}"
    )
    set_heading(
        figure,
        f"{heading}\n{over}, test examples; no number: below {_SMALLEST_SHARE} %"
        if count <= _MAX_NUMBERED_IN_COLUMN
        else f"{heading}\n{over}, test examples",
    )
    return figure


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def _draw_matrix(axes: Axes, percents: np.ma.MaskedArray, **bar: Any) -> Colorbar:
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
    from sklearn.metrics import confusion_matrix  # imported only here, since it takes a second

    shares = np.array(confusion_matrix(labels, predicted, labels=range(classes), normalize="true"))
    shares[np.bincount(labels, minlength=classes) == 0] = np.nan  # sklearn returns 0
    return shares


def _label_classes(axes: Axes, classes: Sequence[str]) -> None:
    shown = range(0, len(classes), 1 + len(classes) // _MAX_LABELLED)
    names = [classes[number].replace("$", r"\$") for number in shown]  # text, not mathematics
    slanted = max(map(len, names)) > 2  # noqa: PLR2004 - two letters fit the width of a cell
    axes.set_yticks(shown, names)
    axes.set_xticks(shown, names, rotation=90 if slanted else 0)
    axes.tick_params(length=0)


def _print_shares(axes: Axes, percents: np.ma.MaskedArray, fontsize: float = 7, least: float = 0) -> None:
    for (true, guess), percent in np.ndenumerate(percents.filled(0)):
        if percent > 0 and percent >= least:
            colour = "white" if percent > _DARK_SHARE else INK
            axes.text(
                guess, true, _share_label(percent), ha="center", va="center", fontsize=fontsize, color=colour
            )


def _share_label(percent: float) -> str:
    """Format a share with one decimal, as 100 only if it is complete, and never as 0."""
    if percent < _SMALLEST_SHARE:
        return "<0.1"
    return "100" if round(percent, 9) == 100 else f"{min(percent, 99.9):.1f}"  # noqa: PLR2004 - per cent
