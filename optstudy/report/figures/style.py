"""The style of every figure; optimizers' colours and markers come from their space files (tuning/spaces/NAME.toml)."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optstudy.report.figures.glyphs import FONT, use_fonts

__all__ = [
    "COLUMN",
    "GREY",
    "INK",
    "column_styled",
    "new_column_figure",
    "new_figure",
    "pdf",
    "png",
    "styled",
    "write_note",
]

INK = "#222222"
GREY = "#8c8c8c"
COLUMN = 3.4  # inches: the width of one column of a paper

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
    "font.family": FONT,
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

# For figures at the width of a paper's column, at their printed size.
_COLUMN_STYLE = _STYLE | {
    "axes.labelpad": 2,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.titlepad": 3,
    "axes.titlesize": 7,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.wspace": 0.06,
    "figure.labelsize": 7,
    "figure.titlesize": 6.5,
    "font.size": 7,
    "grid.linewidth": 0.4,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.2,
    "legend.fontsize": 6.5,
    "legend.handlelength": 2.4,
    "legend.handletextpad": 0.5,
    "legend.labelspacing": 0.3,
    "lines.linewidth": 1.0,
    "lines.markeredgewidth": 0.7,
    "lines.markersize": 3,
    "xtick.labelsize": 6.5,
    "xtick.major.pad": 2,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "xtick.minor.size": 1.5,
    "xtick.minor.width": 0.4,
    "ytick.labelsize": 6.5,
    "ytick.major.pad": 2,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 1.5,
    "ytick.minor.width": 0.4,
}

# Decorators of drawing functions. They avoid pyplot, which takes a second to import and keeps every figure in memory.
styled = mpl.rc_context(_STYLE)
column_styled = mpl.rc_context(_COLUMN_STYLE)


class _ShownFigure(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        return png(self)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, with a layout in which labels do not overlap."""
    return _ShownFigure(figsize=(width, height), dpi=120, layout="constrained")


def new_column_figure(height: float) -> Figure:
    """Return an empty figure as wide as a paper's column, of a height in inches; sharp on a web page too."""
    return _ShownFigure(figsize=(COLUMN, height), dpi=220, layout="constrained")


def write_note(axes: Axes, text: str) -> None:
    """Write a message in the middle of empty axes, and remove the ticks of their y axis."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=INK)
    axes.set_yticks([])


def png(figure: Figure) -> bytes:
    """Return a figure as PNG: the same bytes for the same figure and version of matplotlib."""
    buffer = io.BytesIO()
    use_fonts(figure)
    # Software would be matplotlib's version; its PNGs have no other metadata and no date.
    with _boxes_allowed():
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def _boxes_allowed() -> Iterator[None]:
    """Silence matplotlib about letters that no installed font has; `glyph_notice` names them once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def pdf(figure: Figure) -> bytes:
    """Return a figure as PDF with embedded fonts: the same bytes for the same figure."""
    buffer = io.BytesIO()
    use_fonts(figure)
    with (
        _boxes_allowed(),
        mpl.rc_context({"pdf.fonttype": 42}),
    ):  # TrueType, which publishers require instead of Type 3
        metadata = dict.fromkeys(("CreationDate", "Creator", "Producer"))
        figure.savefig(buffer, format="pdf", metadata=metadata)
    return buffer.getvalue()
