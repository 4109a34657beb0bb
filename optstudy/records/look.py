"""How optimizers look in tables, figures and reports; no result rests on it."""

import zlib
from dataclasses import dataclass

from optstudy.records.naming import RowKey

# The colours of Okabe and Ito (2008), which people with any common colour blindness tell apart. Their yellow
# is too pale for a line on white; wine, from Tol's muted scheme (2021), stands in for it. The packaged space
# files give the others to the paper's optimizers.
_COLOURS = ("#CC79A7", "#56B4E9", "#000000", "#882255")
_STYLES = ("-.v", "--P", "-.<", "-.>")


@dataclass(frozen=True)
class Look:
    """An optimizer's name as papers write it, and how its lines are told from others: in grey by line and marker."""

    label: str
    colour: str  # "#RRGGBB"
    style: str  # line style and marker, as matplotlib writes them: "--s"
    cite: str = ""  # the key of a BibTeX entry, or an entry; empty where nothing is cited

    @property
    def line(self) -> str:
        """Line style."""
        return self.style[:-1]

    @property
    def marker(self) -> str:
        """Marker."""
        return self.style[-1]


PLAIN = Look("", "#222222", "-o")  # of a run whose optimizer is not known


class Looks(dict[str, Look]):
    """The looks of optimizers by name; one whose space file is not known has its name as label."""

    def __missing__(self, optimizer: str) -> Look:
        """Return a look that is picked by name, the same in every study."""
        return look_of(optimizer)

    def row(self, key: RowKey) -> str:
        """Return the label of a row of a comparison."""
        label = self[key.optimizer].label
        return label if key.config == "best" else f"{label} ({key.config})"


def look_of(optimizer: str, *, label: str = "", colour: str = "", style: str = "", cite: str = "") -> Look:
    """Return the look of an optimizer whose space file says some of it; what it does not say is picked by name."""
    if not optimizer:
        return PLAIN
    place = zlib.crc32(optimizer.encode()) % len(_COLOURS)
    return Look(label or optimizer, colour or _COLOURS[place], style or _STYLES[place], cite)
