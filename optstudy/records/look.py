"""Labels, colours and line styles of optimizers in tables, figures and reports; no result depends on them."""

import zlib
from dataclasses import dataclass
from typing import Any

from optstudy.records.naming import RowKey

# Colours of Okabe and Ito (2008), distinguishable with all common forms of colour blindness. Their yellow is too
# pale for a line on white and is replaced by wine, from Tol's muted scheme (2021). The remaining colours are those
# of the paper's optimizers, set in the packaged space files.
_COLOURS = ("#CC79A7", "#56B4E9", "#000000", "#882255")
_STYLES = ("-.v", "--P", "-.<", "-.>")


@dataclass(frozen=True)
class Look:
    """An optimizer's label and plot style; line style and marker distinguish it without colour."""

    label: str
    colour: str  # "#RRGGBB"
    style: str  # line style and marker in matplotlib's notation: "--s"
    cite: str = ""  # a BibTeX entry, or the key of one; empty if nothing is cited
    filled: bool = True  # whether markers are filled

    @property
    def line(self) -> str:
        """Line style."""
        return self.style[:-1]

    @property
    def marker(self) -> str:
        """Marker."""
        return self.style[-1]

    @property
    def marks(self) -> dict[str, Any]:
        """Options of `matplotlib.axes.Axes.plot` for single points."""
        face = self.colour if self.filled else "white"
        return {"marker": self.marker, "color": self.colour, "markerfacecolor": face}


PLAIN = Look("", "#222222", "-o")  # of a run whose optimizer is unknown


class Looks(dict[str, Look]):
    """The looks of optimizers by name; without a space file, the label is the optimizer's name."""

    def __missing__(self, optimizer: str) -> Look:
        """Return a look derived from the name, the same in every study."""
        return derive_look(optimizer)

    def row_label(self, key: RowKey) -> str:
        """Return the label of a row of a comparison: ``Adam``, or ``Adam (paper)``."""
        label = self[key.optimizer].label
        return label if key.config == "best" else f"{label} ({key.config})"


def derive_look(
    optimizer: str, *, label: str = "", colour: str = "", style: str = "", cite: str = ""
) -> Look:
    """Return the look of an optimizer; values that its space file does not set are derived from its name."""
    if not optimizer:
        return PLAIN
    index = zlib.crc32(optimizer.encode()) % len(_COLOURS)
    return Look(label or optimizer, colour or _COLOURS[index], style or _STYLES[index], cite)
