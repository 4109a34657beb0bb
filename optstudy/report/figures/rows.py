"""Layout of figures with a panel for each row of the comparison: row styles, panels, headings, legends."""

from __future__ import annotations

import colorsys
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from optstudy.records.look import Look, Looks
from optstudy.records.naming import RowKey
from optstudy.report.figures.style import COLUMN, new_column_figure, note

LINE = 58  # letters that fit across the column
_PANEL = 25  # letters that fit across one of two panels
_SHADES = (0, 0.45, -0.45, 0.75)  # of an optimizer's rows: towards black, or with a minus towards white
_DARK = 0.1  # luminosity below which a colour gets lighter, not darker


def row_looks(rows: Iterable[RowKey], looks: Looks) -> dict[RowKey, Look]:
    """Return the look of each row, labelled as in tables, with the study in front where there are several.

    Further rows of the same optimizer have other shades of its colour, every other one with open markers.
    """
    rows = list(rows)
    several = len({key.study for key in rows}) > 1
    counts = Counter[str]()
    styled = {}
    for key in rows:
        look, index = looks[key.optimizer], counts[key.optimizer]
        counts[key.optimizer] += 1
        label = escape_math(f"{key.study}: " * several + looks.row_label(key))
        styled[key] = replace(look, label=label, colour=_shade(look.colour, index), filled=index % 2 == 0)
    return styled


def escape_math(text: str) -> str:
    """Escape dollar signs, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def wrap(text: str, letters: int) -> str:
    """Wrap a text into lines of at most ``letters`` characters."""
    return "\n".join(textwrap.wrap(text, letters)) or text


def panels(
    titles: Sequence[str], *, below: bool, common: Literal["xy", "y", ""] = "xy", height: float = 1.15
) -> tuple[Figure, list[Axes]]:
    """Return a figure with two panels in each line, and optionally a wide one ``below`` them.

    Args:
        titles: Titles of the panels, at least one.
        below: Whether to add the wide panel, without a title.
        common: The axes that the panels share.
        height: Height of a line without its title, in inches.
    """
    columns = 1 if len(titles) == 1 else 2
    lines = math.ceil(len(titles) / columns)
    wrapped = [wrap_lines(title, _PANEL if columns > 1 else LINE) for title in titles]
    tallest = max(text.count("\n") for text in wrapped)
    figure = new_column_figure(0.4 + lines * (height + 0.11 * tallest) + below * (height + 0.5))
    grid = figure.add_gridspec(lines + below, columns, height_ratios=[1] * lines + [1.25] * below)
    all_axes: list[Axes] = []
    for index, title in enumerate(wrapped):
        shared = {f"share{side}": all_axes[0] for side in common} if all_axes else {}
        axes = figure.add_subplot(grid[divmod(index, columns)], **shared)
        axes.set_title(title)
        if "y" in common and index % columns:
            axes.tick_params(labelleft=False)
        if "x" in common and index + columns < len(titles):
            axes.tick_params(labelbottom=False)
        all_axes.append(axes)
    if below:
        all_axes.append(figure.add_subplot(grid[lines, :], sharex=all_axes[0], sharey=all_axes[0]))
    return figure, all_axes


def wrap_lines(text: str, letters: int) -> str:
    """Wrap each line of a text."""
    return "\n".join(wrap(line, letters) for line in text.split("\n"))


def empty_figure(text: str) -> Figure:
    """Return a figure with a message in place of data."""
    figure = new_column_figure(1.2)
    axes = figure.add_subplot(xticks=[])
    note(axes, text)
    return figure


def write_in_panel(axes: Axes, text: str) -> None:
    """Write a message in the middle of an empty panel; its axes are shared."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")


def set_heading(figure: Figure, text: str) -> None:
    """Set the heading above the panels."""
    figure.suptitle(wrap_lines(text, LINE + 4), x=0.01, ha="left")


def legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Add a legend below the panels, in as many columns as fit."""
    if not handles:
        return
    names = [wrap(name, LINE - 8) for name in handles]
    longest = max(len(line) for name in names for line in name.split("\n"))
    room = max(1, min(4, len(names), int(COLUMN * 21 / (longest + 8))))
    columns = math.ceil(len(names) / math.ceil(len(names) / room))  # evenly filled
    figure.legend([*handles.values()], names, loc="outside lower center", ncols=columns)


def label_axes(all_axes: Sequence[Axes], count: int, x: str, y: str) -> None:
    """Label the axes of the panels that `panels` returned, ``count`` of them for rows."""
    columns = 1 if count == 1 else 2
    lowest = all_axes[count:] or all_axes[max(0, count - columns) :]
    for axes in all_axes:
        axes.set(xlabel=x if axes in lowest else "", ylabel="")
    figure = all_axes[0].get_figure()
    assert isinstance(figure, Figure)
    figure.supylabel(y)


def thin_ticks(axes: Axes, side: Literal["x", "y"], inches: float, least: float) -> None:
    """Remove ticks whose labels would overlap, keeping the highest.

    Args:
        axes: The axes, with its scale and limits.
        side: Which axis.
        inches: Its approximate length.
        least: Smallest distance between ticks, in inches.
    """
    axis = axes.xaxis if side == "x" else axes.yaxis
    scale = axis.get_transform()
    low, high = scale.transform(np.array(axis.get_view_interval()))
    ticks: dict[float, float] = {}  # position in inches by tick
    for tick in sorted(axis.get_majorticklocs().tolist(), reverse=True):
        position = inches * float((scale.transform(np.array([tick]))[0] - low) / (high - low))
        if 0 <= position <= inches and position + least <= min(ticks.values(), default=math.inf):
            ticks[tick] = position
    if ticks:
        axis.set_major_locator(FixedLocator(sorted(ticks)))


def _shade(colour: str, index: int) -> str:
    """Return the colour for the first row of an optimizer, and shades of it for further rows."""
    hue, light, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    share = _SHADES[index % len(_SHADES)]
    if not share:
        return colour
    if light < _DARK:
        share = -abs(share)
    light = light * (1 - share) if share > 0 else light - share * (1 - light)
    return to_hex(np.clip(colorsys.hls_to_rgb(hue, light, saturation), 0, 1).tolist())
