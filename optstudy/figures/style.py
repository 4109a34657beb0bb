"""One style for every figure: an optimizer's colour, line and marker, the sheet it is drawn on, its bytes."""

import io
import zlib
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optstudy.table import label_of

__all__ = ["GREY", "INK", "Mark", "figure", "label_of", "mark_of", "note", "png", "styled"]

INK = "#222222"
GREY = "#8c8c8c"

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.titlesize": 10,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a figure looks the same on every machine
    "font.size": 8,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": INK,
    "ytick.color": INK,
}

# Wraps a function that draws. The settings hold while it runs, without pyplot, which takes a second to import
# and keeps every figure alive.
styled = mpl.rc_context(_STYLE)


@dataclass(frozen=True)
class Mark:
    """How an optimizer is told from others: by colour, and in grey by line and marker."""

    colour: str
    line: str  # a matplotlib line style
    marker: str


# The colours of Okabe and Ito (2008), which people with any common colour blindness tell apart. Their yellow
# is too pale for a line on white; wine, from Tol's muted scheme (2021), stands in for it.
_MARKS = {
    "sgd": Mark("#0072B2", "-", "o"),
    "adagrad": Mark("#E69F00", "--", "s"),
    "adam": Mark("#009E73", "-.", "^"),
    "adahessian": Mark("#D55E00", ":", "D"),
    "adamw": Mark("#CC79A7", "-.", "v"),
    "rmsprop": Mark("#56B4E9", "--", "P"),
    "nadam": Mark("#000000", "-.", "<"),
    "radam": Mark("#882255", "-.", ">"),
}
_OTHERS = tuple(_MARKS[name] for name in ("adamw", "rmsprop", "nadam", "radam"))


def mark_of(optimizer: str) -> Mark:
    """Return the colour, line and marker of an optimizer, the same in every figure and every study.

    An optimizer that is not known here gets those of one outside the paper, picked by its name; no name gets
    black.
    """
    if not optimizer:
        return Mark(INK, "-", "o")
    return _MARKS.get(optimizer) or _OTHERS[zlib.crc32(optimizer.encode()) % len(_OTHERS)]


def figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, whose layout keeps labels from overlapping."""
    return Figure(figsize=(width, height), layout="constrained")


def note(axes: Axes, text: str) -> None:
    """Say in the middle of the axes why nothing is drawn along their y axis, which loses its ticks."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=INK)
    axes.set_yticks([])


def png(figure: Figure) -> bytes:
    """Return a figure as PNG: the same bytes whenever the same records are drawn, by one matplotlib."""
    buffer = io.BytesIO()
    # Software would name matplotlib's version; a PNG of matplotlib has no other metadata and no date.
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
