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
from optstudy.report.figures.style import COLUMN, new_column_figure, write_note

LINE_WIDTH = 58  # characters that fit across the column
_PANEL_WIDTH = 25  # characters that fit across one of two panels
_SHADES = (0, 0.45, -0.45, 0.75)  # for an optimizer's rows: towards black, or towards white if negative
_DARK_LIGHTNESS = 0.1  # lightness below which all shades go towards white


def row_looks(rows: Iterable[RowKey], looks: Looks) -> dict[RowKey, Look]:
    """Return the look of each row, labelled as in tables, and with the study if there are several.

    Further rows of the same optimizer have other shades of its colour, and every second row has open markers.
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


def wrap(text: str, width: int) -> str:
    """Wrap a text into lines of at most ``width`` characters."""
    return "\n".join(textwrap.wrap(text, width)) or text


def panels(
    titles: Sequence[str], *, wide_panel: bool, common: Literal["xy", "y", ""] = "xy", height: float = 1.15
) -> tuple[Figure, list[Axes]]:
    """Return a figure with two panels per line, and optionally a wide panel below them.

    Args:
        titles: Titles of the panels, at least one.
        wide_panel: Whether to add the wide panel, without a title.
        common: The axes that are shared by the panels.
        height: Height of a line without its title, in inches.
    """
    columns = 1 if len(titles) == 1 else 2
    lines = math.ceil(len(titles) / columns)
    wrapped = [wrap_lines(title, _PANEL_WIDTH if columns > 1 else LINE_WIDTH) for title in titles]
    tallest = max(text.count("\n") for text in wrapped)
    figure = new_column_figure(0.4 + lines * (height + 0.11 * tallest) + wide_panel * (height + 0.5))
    grid = figure.add_gridspec(lines + wide_panel, columns, height_ratios=[1] * lines + [1.25] * wide_panel)
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
    if wide_panel:
        all_axes.append(figure.add_subplot(grid[lines, :], sharex=all_axes[0], sharey=all_axes[0]))
    return figure, all_axes


def wrap_lines(text: str, width: int) -> str:
    """Wrap each line of a text."""
    return "\n".join(wrap(line, width) for line in text.split("\n"))


def empty_figure(text: str) -> Figure:
    """Return a figure with a message in place of data."""
    figure = new_column_figure(1.2)
    axes = figure.add_subplot(xticks=[])
    write_note(axes, text)
    return figure


def write_in_panel(axes: Axes, text: str) -> None:
    """Write a message in the middle of an empty panel with shared axes, whose ticks are kept."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")


def set_heading(figure: Figure, text: str) -> None:
    """Set the heading above the panels."""
    figure.suptitle(wrap_lines(text, LINE_WIDTH + 4), x=0.01, ha="left")


def legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Add a legend below the panels, in as many columns as fit."""
    if not handles:
        return
    names = [wrap(name, LINE_WIDTH - 8) for name in handles]
    longest = max(len(line) for name in names for line in name.split("\n"))
    max_columns = max(1, min(4, len(names), int(COLUMN * 21 / (longest + 8))))
    columns = math.ceil(len(names) / math.ceil(len(names) / max_columns))  # balanced
    figure.legend([*handles.values()], names, loc="outside lower center", ncols=columns)


def label_axes(all_axes: Sequence[Axes], count: int, x: str, y: str) -> None:
    """Label the outer axes of the panels that `panels` returned, the first ``count`` of which are titled."""
    columns = 1 if count == 1 else 2
    bottom = all_axes[count:] or all_axes[max(0, count - columns) :]
    for axes in all_axes:
        axes.set(xlabel=x if axes in bottom else "", ylabel="")
    figure = all_axes[0].get_figure()
    assert isinstance(figure, Figure)
    figure.supylabel(y)


def thin_ticks(axes: Axes, side: Literal["x", "y"], inches: float, least: float) -> None:
    """Remove ticks whose labels would overlap, from the highest down.

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
    """Return the colour of an optimizer's row: its own for the first, and shades of it for further rows."""
    hue, light, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    share = _SHADES[index % len(_SHADES)]
    if not share:
        return colour
    if light < _DARK_LIGHTNESS:
        share = -abs(share)
    light = light * (1 - share) if share > 0 else light - share * (1 - light)
    return to_hex(np.clip(colorsys.hls_to_rgb(hue, light, saturation), 0, 1).tolist())
