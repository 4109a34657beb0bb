"""Layout of figures with a panel for each row of the comparison: row styles, panels, headings, legends."""

from __future__ import annotations

import colorsys
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from optstudy.records.look import Looks
from optstudy.records.naming import RowKey
from optstudy.report.figures.style import COLUMN, column, note

LINE = 58  # letters that fit across the column
_PANEL = 25  # letters that fit across one of two panels
_SHADES = (0, 0.45, -0.45, 0.75)  # of an optimizer's rows: towards black, or with a minus towards white
_DARK = 0.1  # luminosity below which a colour gets lighter, not darker


@dataclass(frozen=True)
class RowStyle:
    """How a row is told from others: its optimizer's colour, line and marker.

    Further rows of the same optimizer have other shades of the colour, every other one with open marks.
    """

    name: str
    colour: str
    line: str
    marker: str
    face: str  # of its marks

    @property
    def marks(self) -> dict[str, Any]:
        """What matplotlib takes for single points."""
        return {"marker": self.marker, "color": self.colour, "markerfacecolor": self.face}


def row_styles(rows: Iterable[RowKey], looks: Looks) -> dict[RowKey, RowStyle]:
    """Return the style of each row, named as tables do, with the study in front where there are several."""
    rows = list(rows)
    several = len({key.study for key in rows}) > 1
    before: dict[str, int] = {}
    found = {}
    for key in rows:
        place = before[key.optimizer] = before.get(key.optimizer, -1) + 1
        look = looks[key.optimizer]
        colour = _shade(look.colour, place)
        name = f"{key.study}: " * several + looks.row(key)
        found[key] = RowStyle(
            escape_math(name), colour, look.line, look.marker, "white" if place % 2 else colour
        )
    return found


def escape_math(text: str) -> str:
    """Escape dollar signs, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def wrapped(text: str, letters: int) -> str:
    """Wrap a text into lines of at most ``letters`` characters."""
    return "\n".join(textwrap.wrap(text, letters)) or text


def panels(
    titles: Sequence[str], *, below: bool, common: Literal["xy", "y", ""] = "xy", height: float = 1.15
) -> tuple[Figure, list[Axes]]:
    """Return a figure with two panels a line, and one as wide as both ``below`` them.

    Args:
        titles: Of the panels of the rows, of which there is at least one.
        below: Whether there is one more, without a title.
        common: The axes that they share.
        height: Of a line, in inches, its title not included.
    """
    columns = 1 if len(titles) == 1 else 2
    lines = math.ceil(len(titles) / columns)
    written = [wrapped_lines(title, _PANEL if columns > 1 else LINE) for title in titles]
    tallest = max(text.count("\n") for text in written)
    drawn = column(0.4 + lines * (height + 0.11 * tallest) + below * (height + 0.5))
    grid = drawn.add_gridspec(lines + below, columns, height_ratios=[1] * lines + [1.25] * below)
    found: list[Axes] = []
    for place, title in enumerate(written):
        shared = {f"share{side}": found[0] for side in common} if found else {}
        axes = drawn.add_subplot(grid[divmod(place, columns)], **shared)
        axes.set_title(title)
        if "y" in common and place % columns:
            axes.tick_params(labelleft=False)
        if "x" in common and place + columns < len(titles):
            axes.tick_params(labelbottom=False)
        found.append(axes)
    if below:
        found.append(drawn.add_subplot(grid[lines, :], sharex=found[0], sharey=found[0]))
    return drawn, found


def wrapped_lines(text: str, letters: int) -> str:
    """Wrap each line of a text."""
    return "\n".join(wrapped(line, letters) for line in text.split("\n"))


def empty(text: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    drawn = column(1.2)
    axes = drawn.add_subplot(xticks=[])
    note(axes, text)
    return drawn


def write_in_panel(axes: Axes, text: str) -> None:
    """Explain in the middle of a panel why it is empty; its axes are shared."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")


def set_heading(drawn: Figure, text: str) -> None:
    """Set the heading above the panels."""
    drawn.suptitle(wrapped_lines(text, LINE + 4), x=0.01, ha="left")


def legend(drawn: Figure, handles: Mapping[str, Any]) -> None:
    """Add a legend below the panels, in as many columns as fit."""
    if not handles:
        return
    names = [wrapped(name, LINE - 8) for name in handles]
    longest = max(len(line) for name in names for line in name.split("\n"))
    room = max(1, min(4, len(names), int(COLUMN * 21 / (longest + 8))))
    columns = math.ceil(len(names) / math.ceil(len(names) / room))  # as even as it can be
    drawn.legend([*handles.values()], names, loc="outside lower center", ncols=columns)


def label_sides(found: Sequence[Axes], count: int, x: str, y: str) -> None:
    """Name the y axis of all panels that `panels` returned, ``count`` of them of rows, and the x axis of the lowest."""
    columns = 1 if count == 1 else 2
    lowest = found[count:] or found[max(0, count - columns) :]
    for axes in found:
        axes.set(xlabel=x if axes in lowest else "", ylabel="")
    drawn = found[0].get_figure()
    assert isinstance(drawn, Figure)
    drawn.supylabel(y)


def thin_ticks(axes: Axes, side: Literal["x", "y"], inches: float, least: float) -> None:
    """Remove ticks whose labels would overlap, keeping the highest.

    Args:
        axes: Where, with its scale and limits.
        side: Which axis.
        inches: How long it is, roughly.
        least: Smallest distance between ticks, in inches.
    """
    axis = axes.xaxis if side == "x" else axes.yaxis
    scale = axis.get_transform()
    low, high = scale.transform(np.array(axis.get_view_interval()))
    kept: dict[float, float] = {}  # place in inches by tick
    for tick in sorted(axis.get_majorticklocs().tolist(), reverse=True):
        place = inches * float((scale.transform(np.array([tick]))[0] - low) / (high - low))
        if 0 <= place <= inches and place + least <= min(kept.values(), default=math.inf):
            kept[tick] = place
    if kept:
        axis.set_major_locator(FixedLocator(sorted(kept)))


def seeds_of(rows: Iterable[Sized]) -> str:
    """Say how many seeds rows have: "10 seeds", "1 seed", or "3 to 10 seeds"."""
    counts = sorted({len(row) for row in rows})
    if not counts:
        return "no seeds"
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) + f" seed{'s' * (counts[-1] > 1)}"


def _shade(colour: str, place: int) -> str:
    """Return a colour for the first row of an optimizer, and shades of it for those that follow."""
    hue, light, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    share = _SHADES[place % len(_SHADES)]
    if not share:
        return colour
    if light < _DARK:
        share = -abs(share)
    light = light * (1 - share) if share > 0 else light - share * (1 - light)
    return to_hex(np.clip(colorsys.hls_to_rgb(hue, light, saturation), 0, 1).tolist())
