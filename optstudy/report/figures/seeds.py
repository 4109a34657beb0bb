"""Figures of the median and band over each row's seeds: gradient norms, loss lines and eigenvalue ratios."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from optstudy.records.curvature import NO_SIGN
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.look import Look
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.curvature import SIGNS, VERDICTS
from optstudy.report.figures.rows import (
    empty_figure,
    label_axes,
    legend,
    panels,
    row_looks,
    set_heading,
    write_in_panel,
)
from optstudy.report.figures.style import INK, column_styled
from optstudy.report.tables.table import count_label

Floats = NDArray[np.float64]
# (n,) positions and (seeds, n) values; nan if missing, inf if not finite
Lines = tuple[Floats, Floats]

_MAX_MARKERS = 8  # along a line


@column_styled
def gradient_norms(evidence: Evidence) -> Figure:
    """Draw the norm of the last mini-batch's gradient by epoch over the seeds, figure 1 of the paper.

    Returns:
        A panel for each row: the median over seeds with a band from minimum to maximum, and a last panel with all
        medians. A diverged run counts as infinite after its last epoch; crosses mark these epochs.
    """
    return _banded(
        evidence, _norms, "Epoch", "Gradient norm", "No finite gradient\nnorm was recorded", integers=True
    )


@column_styled
def loss_lines(evidence: Evidence) -> Figure:
    """Draw the loss along the first eigenvector at the end of the runs over the seeds, figure 2 of the paper.

    An eigenvector has no sign: each seed's line is turned so that it rises more on the right.

    Returns:
        A panel for each row: the median over seeds with a band from minimum to maximum, and a last panel with all
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

    Returns:
        A panel for each row: the median over seeds with a band from minimum to maximum, and in its title the share
        of all seeds' steps by verdict on the ratio, and where its sign is opposite or open.
    """
    rows = evidence.rows()
    if not rows:
        return empty_figure("There are no runs")
    shown = row_looks(rows, evidence.looks)
    lines = {key: _ratios(row) for key, row in rows.items()}
    titles = ["\n".join(filter(None, (shown[key].label, _shares(row)))) for key, row in rows.items()]
    figure, all_axes = panels(titles, wide_panel=False)
    for axes, key in zip(all_axes, rows, strict=True):
        _draw(axes, lines[key], shown[key], "No eigenvalues were\nfollowed, or their\nratio is not finite")
    log_axis(all_axes[0], "y", [1.0, *_finite(lines.values())])
    all_axes[0].set_ylim(bottom=1)
    _scale_x(all_axes[0], [lines[key][0] for key in rows], integers=True)
    label_axes(all_axes, len(rows), "Steps before the end", r"$|\lambda_1|\,/\,|\lambda_2|$")
    set_heading(figure, f"{_band_caption(rows.values())}; shares are of all seeds' steps")
    return figure


def _banded(
    evidence: Evidence,
    read_lines: Callable[[Sequence[RunEvidence]], Lines],
    x: str,
    y: str,
    placeholder: str,
    *,
    integers: bool = False,
) -> Figure:
    rows = evidence.rows()
    if not rows:
        return empty_figure("There are no runs")
    shown = row_looks(rows, evidence.looks)
    lines = {key: read_lines(row) for key, row in rows.items()}
    several = len(rows) > 1
    figure, all_axes = panels([_title(shown[key], row) for key, row in rows.items()], wide_panel=several)
    for axes, key in zip(all_axes, rows, strict=False):
        _draw(axes, lines[key], shown[key], placeholder)
    if several:
        handles = {}
        for index, key in enumerate(rows):
            if _drawable(lines[key][1]):
                handles[shown[key].label] = _median(all_axes[-1], lines[key], shown[key], index)
        all_axes[-1].set_title("All medians")
        legend(figure, handles)
    log_axis(all_axes[0], "y", _finite(lines.values()))
    _scale_x(all_axes[0], [lines[key][0] for key in rows], integers=integers)
    label_axes(all_axes, len(rows), x, y)
    has_infinite = any(np.isinf(values).any() for _, values in lines.values())
    set_heading(
        figure,
        _band_caption(rows.values())
        + "\nCrosses: where a seed was not finite, and counts as infinite" * has_infinite,
    )
    return figure


def _draw(axes: Axes, lines: Lines, look: Look, placeholder: str) -> None:
    """Draw the median and the band of one row's seeds, and crosses where some are not finite."""
    positions, values = lines
    if not _drawable(values):
        write_in_panel(axes, "No value is above 0" if np.isfinite(values).any() else placeholder)
        return
    low, high = _range(values)
    limit = 1e3 * float(values[np.isfinite(values)].max())  # far above the axes
    if len(values) > 1:
        top = np.minimum(high, limit)
        axes.fill_between(positions, np.minimum(low, limit), top, color=look.colour, alpha=0.3, linewidth=0)
    _median(axes, lines, look, 0)
    infinite = positions[np.isinf(values).any(axis=0)]
    if len(infinite):
        shown = infinite[:: 1 + len(infinite) // _MAX_MARKERS]
        edge = axes.get_xaxis_transform()
        axes.plot(shown, [0.05] * len(shown), "x", color=INK, transform=edge)


def _drawable(values: Floats) -> bool:
    """Whether a logarithmic axis can show any value."""
    return bool((np.isfinite(values) & (values > 0)).any())


def _median(axes: Axes, lines: Lines, look: Look, index: int) -> Any:
    """Draw the median over seeds, with markers at positions that differ between rows, so that all are visible."""
    positions, values = lines
    medians = _finite_median(values)
    every = 1 + (len(positions) - 1) // _MAX_MARKERS
    [line] = axes.plot(
        positions, medians, linestyle=look.line, markevery=(index % 4 * every // 4, every), **look.marks
    )
    return line


def _finite_median(values: Floats) -> Floats:
    """Median over the seeds with a value; nan if infinite, which leaves a gap in the line."""
    known = [column[~np.isnan(column)] for column in values.T]
    medians = np.array([np.median(column) if len(column) else math.nan for column in known])
    return np.where(np.isfinite(medians), medians, math.nan)


def _range(values: Floats) -> tuple[Floats, Floats]:
    """Minimum and maximum over the seeds with a value; nan if there are none."""
    missing = np.isnan(values).all(axis=0)
    low = np.where(np.isnan(values), math.inf, values).min(axis=0)
    high = np.where(np.isnan(values), -math.inf, values).max(axis=0)
    return np.where(missing, math.nan, low), np.where(missing, math.nan, high)


def _norms(row: Sequence[RunEvidence]) -> Lines:
    epochs = sorted({record.epoch for final in row for record in final.epochs})
    values = np.full((len(row), len(epochs)), math.nan)
    for index, final in enumerate(row):
        norms = {record.epoch: record.gradient_norm for record in final.epochs}
        missing = math.inf if final.run.outcome == "diverged" else math.nan  # after its last epoch
        recorded = [norms.get(epoch, missing) for epoch in epochs]
        values[index] = [math.inf if norm is None else norm for norm in recorded]
    return np.array(epochs, dtype=np.float64), values


def _losses(row: Sequence[RunEvidence]) -> Lines:
    known = [final.curvature for final in row if final.curvature is not None and len(final.curvature.line)]
    comparable = [result for result in known if np.array_equal(result.distances, known[0].distances)]
    if not comparable:
        return np.zeros(0), np.zeros((0, 0))
    finite = [np.where(np.isfinite(result.line), result.line, math.inf) for result in comparable]
    return comparable[0].distances, np.stack([line[::-1] if line[0] > line[-1] else line for line in finite])


def _ratios(row: Sequence[RunEvidence]) -> Lines:
    traces = [final.trace for final in row if final.trace is not None and len(final.trace.step)]
    by_step = [dict(zip((t.step - t.step[-1]).tolist(), t.ratio.tolist(), strict=True)) for t in traces]
    positions = sorted({step for ratios in by_step for step in ratios})
    values = [[ratios.get(step, math.nan) for step in positions] for ratios in by_step]
    return np.array(positions, dtype=np.float64), np.array(values).reshape(len(by_step), len(positions))


def _shares(row: Sequence[RunEvidence]) -> str:
    traces = [final.trace for final in row if final.trace is not None]
    verdicts = Counter(str(verdict) for trace in traces for verdict in trace.verdict)
    signs = Counter(str(sign) for trace in traces for sign in trace.sign)
    names = {name: mark for name, mark in VERDICTS.items() if name != NO_SIGN}  # which counts as a sign
    return "\n".join(filter(None, (_known_shares(verdicts, names), _known_shares(signs, SIGNS))))


def _known_shares(counts: Counter[str], marks: Mapping[str, tuple[str, str]]) -> str:
    total = counts.total()
    known = [(counts[name], text) for name, (_, text) in marks.items() if counts[name]]
    return ", ".join(f"{text} {_percent(count, total)}" for count, text in known)


def _percent(count: int, total: int) -> str:
    """Format a share, as 100 % only if it is complete, and never as 0 %."""
    if count < total and round(100 * count / total) in (0, 100):
        return "<1 %" if count < total / 2 else ">99 %"
    return f"{100 * count / total:.0f} %"


def _title(look: Look, row: Sequence[RunEvidence]) -> str:
    diverged = sum(final.run.outcome == "diverged" for final in row)
    return f"{look.label}\n{diverged} of {len(row)} diverged" if diverged else look.label


def _band_caption(rows: Iterable[Sequence[RunEvidence]]) -> str:
    counts = count_label("seed", map(len, rows))
    if counts == "1 seed":
        return "1 seed"
    return f"Lines: median over {counts}; bands: minimum to maximum"


def _finite(lines: Iterable[Lines]) -> list[float]:
    return [float(value) for _, values in lines for value in values[np.isfinite(values)]]


def _scale_x(axes: Axes, positions: Iterable[Floats], *, integers: bool) -> None:
    every = [float(x) for row in positions for x in row]
    if not every:
        axes.set_xticks([])
        return
    margin = max(0.5, (max(every) - min(every)) / 40) if integers else (max(every) - min(every)) / 40
    axes.set_xlim(min(every) - margin, max(every) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=integers, min_n_ticks=1))
