"""What a classifier takes for what."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from optstudy.figures.style import INK, figure, styled

_MOST_NUMBERED = 20  # classes; with more, the numbers in the cells could not be read
_DARK = 40  # per cent; ink on a darker cell could not be read
_MOST_NAMED = 40  # classes; with more, only some are named along the axes


@styled
def confusion(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str], title: str) -> Figure:
    """Draw the confusion matrix as a heat map, each row as shares of its true class (paper, figures 4 to 7).

    The colours follow the square root of the share, so that errors of a few per cent can be seen.

    Args:
        labels: True classes, integers from 0, shape ``(n,)``, ``n`` at least 1.
        predicted: Predicted classes, likewise.
        classes: Names, in the order of the integers.
        title: What run it is.

    Returns:
        The heat map, with per cent in the cells up to 20 classes; a cell without a number is exactly 0, and
        the row of a class that has no image is grey.
    """
    shares = _shares(np.asarray(labels), np.asarray(predicted), len(classes))
    side = min(max(0.45 * len(classes), 2.2), 9.0)
    drawn = figure(side + 1.6, side + 0.9)
    axes = drawn.add_subplot(xlabel="Predicted class", ylabel="True class")
    axes.set_title(f"{title}\ntest images" if title else "Test images")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#e0e0e0")
    percents = np.ma.masked_invalid(100 * shares)
    image = axes.imshow(percents, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
    bar = drawn.colorbar(image, label="Share of the true class (%)", shrink=0.8, aspect=10 + 3 * side)
    bar.set_ticks([0, 1, 5, 20, 50, 100])
    bar.outline.set_visible(False)
    _name(axes, classes)
    if len(classes) <= _MOST_NUMBERED:
        _number(axes, percents)
    return drawn


def _shares(labels: NDArray[np.int_], predicted: NDArray[np.int_], classes: int) -> NDArray[np.float64]:
    from sklearn.metrics import confusion_matrix  # a second to import, needed here alone

    shares = np.array(confusion_matrix(labels, predicted, labels=range(classes), normalize="true"))
    shares[np.bincount(labels, minlength=classes) == 0] = np.nan  # sklearn says 0
    return shares


def _name(axes: Axes, classes: Sequence[str]) -> None:
    shown = range(0, len(classes), 1 + len(classes) // _MOST_NAMED)
    names = [classes[number].replace("$", r"\$") for number in shown]  # no mathematics, as typed
    slanted = max(map(len, names)) > 2  # noqa: PLR2004 - two letters fit the width of a cell
    axes.set_yticks(shown, names)
    axes.set_xticks(shown, names, rotation=90 if slanted else 0)
    axes.tick_params(length=0)


def _number(axes: Axes, percents: np.ma.MaskedArray) -> None:
    for (row, column), percent in np.ndenumerate(percents):
        if percent > 0:
            colour = "white" if percent > _DARK else INK
            axes.text(column, row, _short(percent), ha="center", va="center", fontsize=7, color=colour)


def _short(percent: float) -> str:
    """Write a share with one decimal, but 100 only for all and never 0 for some."""
    if percent < 0.05:  # noqa: PLR2004 - it would round to 0.0
        return "<0.1"
    return "100" if round(percent, 9) == 100 else f"{min(percent, 99.9):.1f}"  # noqa: PLR2004 - per cent
