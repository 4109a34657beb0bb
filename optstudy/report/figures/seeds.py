"""Figures over the seeds of each row, median and band: gradient norms, loss lines and eigenvalue ratios."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.curvature import VERDICTS
from optstudy.report.figures.rows import (
    RowStyle,
    empty,
    label_sides,
    legend,
    panels,
    row_styles,
    seeds_of,
    set_heading,
    write_in_panel,
)
from optstudy.report.figures.style import INK, column_styled

Floats = NDArray[np.float64]
Lines = tuple[
    Floats, Floats
]  # (n,) places and (seeds, n) values; nan where there is none, inf where it was lost

_MARKS = 8  # along a line, at most


@column_styled
def gradient_norms(evidence: Evidence) -> Figure:
    """Draw the norm of the last mini-batch's gradient by epoch over the seeds, figure 1 of the paper.

    Args:
        evidence: The runs.

    Returns:
        A panel a row: the median over seeds in the band from the least to the most, and a last panel with all
        medians. A run that diverged counts as infinite from there on; epochs where one did have a cross below.
    """
    return _banded(
        evidence, _norms, "Epoch", "Gradient norm", "No finite gradient\nnorm was recorded", whole=True
    )


@column_styled
def loss_lines(evidence: Evidence) -> Figure:
    """Draw the loss along the first eigenvector where the runs ended over the seeds, figure 2 of the paper.

    An eigenvector has no sign: each seed's line is turned so that its rise on the right is the larger one.

    Args:
        evidence: The runs.

    Returns:
        A panel a row: the median over seeds in the band from the least to the most, and a last panel with all
        medians.
    """
    return _banded(
        evidence,
        _losses,
        "Distance along first eigenvector",
        "Loss",
        "The loss around its\nend was not measured,\nor is not finite",
    )


@column_styled
def ratios(evidence: Evidence) -> Figure:
    r"""Draw :math:`|\lambda_1| / |\lambda_2|` during the last steps over the seeds, figure 3 of the paper.

    Args:
        evidence: The runs.

    Returns:
        A panel a row: the median over seeds in the band from the least to the most, and in its title the share
        of all seeds' steps by what may be said of the two eigenvalues.
    """
    rows = evidence.rows()
    if not rows:
        return empty("There are no runs")
    shown = row_styles(rows, evidence.looks)
    lines = {names: _ratios(row) for names, row in rows.items()}
    titles = ["\n".join(filter(None, (shown[names].name, _shares(row)))) for names, row in rows.items()]
    drawn, found = panels(titles, below=False)
    for axes, names in zip(found, rows, strict=True):
        _draw(
            axes, lines[names], shown[names], "No eigenvalues were\nfollowed, or their\nratio is not finite"
        )
    log_axis(found[0], "y", [1.0, *_finite(lines.values())])
    found[0].set_ylim(bottom=1)
    _place_axis(found[0], [lines[names][0] for names in rows], whole=True)
    label_sides(found, len(rows), "Steps before the end", r"$|\lambda_1|\,/\,|\lambda_2|$")
    set_heading(drawn, f"{_what(rows.values())}; shares are of all seeds' steps")
    return drawn


def _banded(
    evidence: Evidence,
    lines_of: Callable[[Sequence[RunEvidence]], Lines],
    x: str,
    y: str,
    nothing: str,
    *,
    whole: bool = False,
) -> Figure:
    rows = evidence.rows()
    if not rows:
        return empty("There are no runs")
    shown = row_styles(rows, evidence.looks)
    lines = {names: lines_of(row) for names, row in rows.items()}
    together = len(rows) > 1
    drawn, found = panels([_title(shown[names], row) for names, row in rows.items()], below=together)
    for axes, names in zip(found, rows, strict=False):
        _draw(axes, lines[names], shown[names], nothing)
    if together:
        handles = {}
        for place, names in enumerate(rows):
            if _drawable(lines[names][1]):
                handles[shown[names].name] = _median(found[-1], lines[names], shown[names], place)
        found[-1].set_title("All medians")
        legend(drawn, handles)
    log_axis(found[0], "y", _finite(lines.values()))
    _place_axis(found[0], [lines[names][0] for names in rows], whole=whole)
    label_sides(found, len(rows), x, y)
    lost = any(np.isinf(values).any() for _, values in lines.values())
    set_heading(
        drawn, _what(rows.values()) + "\nCrosses: where a seed was not finite, and counts as infinite" * lost
    )
    return drawn


def _draw(axes: Axes, lines: Lines, look: RowStyle, nothing: str) -> None:
    """Draw the seeds of one row: their median, their band, and where some were lost."""
    places, values = lines
    if not _drawable(values):
        write_in_panel(axes, "No value is above 0" if np.isfinite(values).any() else nothing)
        return
    low, high = _range(values)
    most = 1e3 * float(values[np.isfinite(values)].max())  # above the axes
    if len(values) > 1:
        top = np.minimum(high, most)
        axes.fill_between(places, np.minimum(low, most), top, color=look.colour, alpha=0.3, linewidth=0)
    _median(axes, lines, look, 0)
    lost = places[np.isinf(values).any(axis=0)]
    if len(lost):
        shown = lost[:: 1 + len(lost) // _MARKS]
        edge = axes.get_xaxis_transform()
        axes.plot(shown, [0.05] * len(shown), "x", color=INK, transform=edge)


def _drawable(values: Floats) -> bool:
    """Whether there is anything to see on a logarithmic axis."""
    return bool((np.isfinite(values) & (values > 0)).any())


def _median(axes: Axes, lines: Lines, look: RowStyle, place: int) -> Any:
    """Draw the median over seeds; the places of the marks differ from row to row, so that none hides another."""
    places, values = lines
    middle = _middle(values)
    every = 1 + (len(places) - 1) // _MARKS
    [line] = axes.plot(
        places, middle, linestyle=look.line, markevery=(place % 4 * every // 4, every), **look.marks
    )
    return line


def _middle(values: Floats) -> Floats:
    """Median over the seeds that have a value; nan where it is infinite, so that the line has a gap."""
    known = [column[~np.isnan(column)] for column in values.T]
    found = np.array([np.median(column) if len(column) else math.nan for column in known])
    return np.where(np.isfinite(found), found, math.nan)


def _range(values: Floats) -> tuple[Floats, Floats]:
    """Least and most over the seeds that have a value; nan where none has."""
    none = np.isnan(values).all(axis=0)
    low = np.where(np.isnan(values), math.inf, values).min(axis=0)
    high = np.where(np.isnan(values), -math.inf, values).max(axis=0)
    return np.where(none, math.nan, low), np.where(none, math.nan, high)


def _norms(row: Sequence[RunEvidence]) -> Lines:
    epochs = sorted({record.epoch for one in row for record in one.epochs})
    values = np.full((len(row), len(epochs)), math.nan)
    for place, one in enumerate(row):
        norms = {record.epoch: record.gradient_norm for record in one.epochs}
        lost = math.inf if one.run.outcome == "diverged" else math.nan  # after its last epoch
        found = [norms.get(epoch, lost) for epoch in epochs]
        values[place] = [math.inf if norm is None else norm for norm in found]
    return np.array(epochs, dtype=np.float64), values


def _losses(row: Sequence[RunEvidence]) -> Lines:
    known = [one.curvature for one in row if one.curvature is not None and len(one.curvature.line)]
    alike = [found for found in known if np.array_equal(found.distances, known[0].distances)]
    if not alike:
        return np.zeros(0), np.zeros((0, 0))
    finite = [np.where(np.isfinite(found.line), found.line, math.inf) for found in alike]
    return alike[0].distances, np.stack([line[::-1] if line[0] > line[-1] else line for line in finite])


def _ratios(row: Sequence[RunEvidence]) -> Lines:
    traces = [one.trace for one in row if one.trace is not None and len(one.trace.step)]
    seen = [dict(zip((t.step - t.step[-1]).tolist(), t.ratio.tolist(), strict=True)) for t in traces]
    places = sorted({place for one in seen for place in one})
    values = [[one.get(place, math.nan) for place in places] for one in seen]
    return np.array(places, dtype=np.float64), np.array(values).reshape(len(seen), len(places))


def _shares(row: Sequence[RunEvidence]) -> str:
    verdicts = Counter(str(v) for one in row if one.trace is not None for v in one.trace.verdict)
    total = verdicts.total()
    known = [(verdicts[name], text) for name, (_, text) in VERDICTS.items() if verdicts[name]]
    return ", ".join(f"{text} {_percent(count, total)}" for count, text in known)


def _percent(count: int, total: int) -> str:
    """Write a share: 100 only for all, and never 0 for some."""
    if count < total and round(100 * count / total) in (0, 100):
        return "<1 %" if count < total / 2 else ">99 %"
    return f"{100 * count / total:.0f} %"


def _title(look: RowStyle, row: Sequence[RunEvidence]) -> str:
    diverged = sum(one.run.outcome == "diverged" for one in row)
    return f"{look.name}\n{diverged} of {len(row)} diverged" if diverged else look.name


def _what(rows: Iterable[Sequence[RunEvidence]]) -> str:
    counts = seeds_of(rows)
    if counts == "1 seed":
        return "1 seed"
    return f"Lines: median over {counts}; bands: from the least to the most"


def _finite(lines: Iterable[Lines]) -> list[float]:
    return [float(value) for _, values in lines for value in values[np.isfinite(values)]]


def _place_axis(axes: Axes, places: Iterable[Floats], *, whole: bool) -> None:
    every = [float(place) for some in places for place in some]
    if not every:
        axes.set_xticks([])
        return
    margin = max(0.5, (max(every) - min(every)) / 40) if whole else (max(every) - min(every)) / 40
    axes.set_xlim(min(every) - margin, max(every) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1))
