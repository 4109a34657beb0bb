"""Figures of one run's curvature: eigenvalue ratio by step, and the loss and the spectrum at its end."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from optstudy.records.curvature import NO_SIGN, CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.look import PLAIN, Look
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.style import GREY, INK, new_figure, styled

Floats = NDArray[np.float64]

VERDICTS = {
    "separated": ("o", "separated"),
    "degenerate": ("s", "degenerate"),
    NO_SIGN: ("v", "opposite signs"),
    "unresolved": ("x", "unresolved"),
}
SIGNS = {"opposite": ("v", "opposite signs"), "open": ("|", "sign open")}  # at the foot of the panel
_SECOND = "#56B4E9"
_MAX_THRESHOLD = 2.0  # times the largest value; a line further up would flatten the curves


class StabilityLimit(Protocol):
    """The stability threshold of full-batch steps on a quadratic; see `optstudy.curvature.Stability`."""

    @property
    def threshold(self) -> float:
        """The eigenvalue beyond which steps diverge."""

    @property
    def preconditioned(self) -> bool:
        """Whether it applies to the preconditioned Hessian."""

    @property
    def formula(self) -> str:
        """The threshold as a formula."""


@styled
def eigen_ratio(
    trace: EigenTrace, title: str, look: Look = PLAIN, stability: StabilityLimit | None = None
) -> Figure:
    """Draw the ratio of the two largest eigenvalues during the last steps, figure 3 of the paper.

    Args:
        trace: The tracked eigenvalues.
        title: Title, usually the name of the run.
        look: Look of its optimizer; black by default.
        stability: Stability threshold of its optimizer, drawn as a line; if preconditioned, in a separate panel.

    Returns:
        The ratio with its interval and verdicts, with filled markers where verified, and marks at the foot where the
        signs are opposite or open; below it the two eigenvalues.
    """
    scaled = bool(len(trace.preconditioned))
    figure = new_figure(5.6, 5.8 if scaled else 4.4)
    panels = figure.subplots(
        3 if scaled else 2, 1, sharex=True, height_ratios=[3, 2, 1.6] if scaled else [3, 2]
    )
    _ratio_panel(panels[0], trace, look)
    panels[0].set_title(f"{title}\nlargest eigenvalues of the Hessian, by magnitude".lstrip("\n"))
    _values_panel(panels[1], trace, look, stability)
    if scaled:
        _scaled_panel(panels[2], trace, look, stability)
    panels[-1].set_xlabel("Step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def _ratio_panel(axes: Axes, trace: EigenTrace, look: Look) -> None:
    high = np.where(np.isfinite(trace.high), trace.high, np.nan)
    ratio = np.where(np.isfinite(trace.ratio), trace.ratio, np.nan)
    axes.fill_between(trace.step, trace.low, high, color=look.colour, alpha=0.25, linewidth=0)
    axes.plot(trace.step, ratio, color=look.colour, linewidth=1)
    for verdict, (marker, text) in VERDICTS.items():
        matches = trace.verdict == verdict
        for checked in (True, False):
            steps = matches & (trace.verified == checked)
            if not steps.any():
                continue
            labelled = checked or not (matches & trace.verified).any()  # once per verdict
            axes.plot(
                trace.step[steps],
                ratio[steps],
                marker,
                color=look.colour if marker not in "xv" else INK,
                markerfacecolor=look.colour if checked else "white",
                markersize=5 if checked else 3,
                label=text if labelled else None,
            )
    for sign, (marker, text) in SIGNS.items():
        steps = trace.step[(trace.sign == sign) & (trace.verdict != NO_SIGN)]
        if len(steps):
            foot = axes.get_xaxis_transform()
            axes.plot(
                steps, [0.03] * len(steps), marker, color=INK, ms=3, linestyle="", transform=foot, label=text
            )
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.set_ylabel(r"$|\lambda_1|\,/\,|\lambda_2|$")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1, 1),
        title="filled: checked\nfor missed values,\nopen: followed",
        alignment="left",
    )


def _values_panel(axes: Axes, trace: EigenTrace, look: Look, stability: StabilityLimit | None) -> None:
    for index, (colour, line) in enumerate(((look.colour, "-"), (_SECOND, "--"))):
        step, values = _break_at_sign_changes(trace.step, trace.values[:, index])
        axes.plot(
            step, values, color=colour, linestyle=line, marker=".", ms=3, label=rf"$\lambda_{index + 1}$"
        )
    if (trace.values < 0).any():
        axes.axhline(0, color=GREY, linewidth=0.8)
    if stability is not None and not stability.preconditioned:
        _draw_threshold(axes, stability, float(np.nanmax(np.append(np.abs(trace.values), 0))))
    axes.set_ylabel("Eigenvalue")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _break_at_sign_changes(step: NDArray[np.int64], values: Floats) -> tuple[Floats, Floats]:
    """Break a line where its sign changes, since another eigenvalue becomes the largest in magnitude there."""
    sign_changes = 1 + np.flatnonzero(np.diff(np.sign(values)) != 0)
    return np.insert(step.astype(np.float64), sign_changes, np.nan), np.insert(values, sign_changes, np.nan)


def _scaled_panel(axes: Axes, trace: EigenTrace, look: Look, stability: StabilityLimit | None) -> None:
    sizes = np.abs(trace.preconditioned)
    axes.plot(trace.preconditioned_step, sizes, color=look.colour, marker=look.marker, ms=4)
    negative = trace.preconditioned < 0
    if negative.any():
        open_marks: dict[str, Any] = {"color": INK, "markerfacecolor": "white", "linestyle": "none", "ms": 6}
        axes.plot(
            trace.preconditioned_step[negative], sizes[negative], marker="v", label="negative", **open_marks
        )
    thresholds = []
    if stability is not None:
        _draw_threshold(axes, stability, math.inf)
        thresholds = [stability.threshold]
    axes.set_ylabel(r"$|\lambda_1|$ of" "\n" r"$P^{-1/2} H P^{-1/2}$")
    log_axis(axes, "y", list(filter(math.isfinite, [*sizes.tolist(), *thresholds])))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _draw_threshold(axes: Axes, stability: StabilityLimit, largest: float) -> None:
    """Draw the threshold; if it is far above the largest value, only list it in the legend."""
    name = _formula_label(stability)
    if stability.threshold <= _MAX_THRESHOLD * largest and math.isfinite(stability.threshold):
        axes.axhline(stability.threshold, color=INK, linestyle=":", linewidth=1, label=name)
    else:
        axes.plot([], [], linestyle="", label=f"{name}\nis {stability.threshold:.3g}")


def _formula_label(stability: StabilityLimit) -> str:
    return f"{stability.formula}\n(full-batch\nheuristic)".replace(" / ((", " /\n((")


@styled
def landscape_line(result: CurvatureResult, title: str, look: Look = PLAIN) -> Figure:
    """Draw the loss along the first eigenvector with its quadratic model, figure 2 of the paper."""
    figure = new_figure(4.8, 3.2)
    axes = figure.add_subplot(xlabel="Distance along the first eigenvector", ylabel="Loss")
    axes.set_title(f"{title}\nloss around its end")
    label = f"loss on {result.samples:,} examples"
    draw_line(axes, result.distances, result.line, result.line_model, look=look, label=label)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_line(
    axes: Axes, distances: Floats, losses: Floats, quadratic: Floats, *, look: Look, label: str
) -> None:
    """Draw the loss along a line, and its quadratic model; points for a single distance."""
    dot, cross = ("o", "x") if len(distances) == 1 else (None, None)
    axes.plot(distances, gaps(losses), color=look.colour, linestyle="-", marker=dot, label=label)
    axes.plot(distances, gaps(quadratic), color=INK, linestyle="--", marker=cross, label="quadratic model")
    axes.axvline(0, color=GREY, linewidth=0.8)


@styled
def landscape_plane(result: CurvatureResult, title: str) -> Figure:
    """Draw the loss over the plane of the first two eigenvectors, figures 8 to 11 of the paper."""
    heading = f"{title}\nloss on {result.samples:,} examples around its end (+)"
    distances = (result.distances, result.distances)
    return plane_figure(distances, result.plane, heading, "eigenvector", aspect="equal")


def plane_figure(
    distances: tuple[Floats, Floats], plane: Floats, heading: str, direction: str, aspect: str
) -> Figure:
    """Draw the loss over a plane as a surface, and as contours beside it."""
    figure = new_figure(7.4, 3.9)
    figure.set_layout_engine("constrained", rect=(0, 0.03, 1, 0.97))  # the layout ignores 3D axes
    surface = figure.add_subplot(1, 2, 1, projection="3d")
    surface.set(xlabel="1st", ylabel="2nd")
    surface.set_box_aspect(None, zoom=0.8)
    flat = figure.add_subplot(1, 2, 2, aspect=aspect)
    filled = draw_plane(surface, flat, distances, plane, linewidths=0.4)
    flat.set(xlabel=f"Distance along the 1st {direction}", ylabel="Distance along the 2nd")
    figure.colorbar(filled, ax=flat, label="Loss", shrink=0.85, format="%.3g")
    figure.suptitle(heading, x=0.02, ha="left")
    return figure


def draw_plane(
    surface: Any,
    flat: Axes,
    distances: tuple[Floats, Floats],
    plane: Floats,
    linewidths: float,
    markersize: float | None = None,
) -> ContourSet:
    """Draw the loss over a plane as a surface, and as contours, which are returned."""
    first, second = np.meshgrid(*distances, indexing="ij")
    plane = gaps(plane)
    levels = contour_levels(plane)
    colours: dict[str, Any] = {"cmap": "viridis", "norm": PowerNorm(0.5, levels[0], levels[-1])}
    surface.plot_surface(first, second, plane, linewidth=0, antialiased=True, **colours)
    surface.view_init(elev=28, azim=-55)
    filled = flat.contourf(first, second, np.ma.masked_invalid(plane), levels=levels, **colours)
    flat.contour(first, second, np.ma.masked_invalid(plane), levels=levels, colors=INK, linewidths=linewidths)
    flat.plot(0, 0, "P", color="white", markeredgecolor=INK, markersize=markersize)
    return filled


def gaps(values: np.ndarray) -> np.ndarray:
    """Return values with nan in place of infinities, which leaves gaps in lines."""
    return np.where(np.isfinite(values), values, np.nan)


def contour_levels(plane: np.ndarray) -> Sequence[float]:
    """Return the levels of contours, closer together near the minimum; two levels if the loss is constant."""
    finite = plane[np.isfinite(plane)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    if not high > low:
        return [low - 1, low + 1]
    return list(low + (high - low) * np.linspace(0, 1, 13) ** 2)


@styled
def spectrum(result: CurvatureResult, title: str, look: Look = PLAIN) -> Figure:
    """Draw the density of the Hessian's eigenvalues, and its two largest."""
    figure = new_figure(5.2, 3.2)
    axes = figure.add_subplot(xlabel="Eigenvalue", ylabel="Density")
    axes.set_title(f"{title}\nspectrum of the Hessian on {result.samples:,} examples, smoothed")
    draw_density(axes, result.grid, result.density, result.spread, look)
    for index, value in enumerate(result.values[:2]):
        axes.axvline(
            value,
            color=INK,
            linestyle=(":", "--")[index],
            linewidth=1,
            label=rf"$\lambda_{index + 1} = {value:.3g}$",
        )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_density(axes: Axes, grid: Floats, density: Floats, spread: Floats, look: Look) -> None:
    """Draw a density of eigenvalues and its standard error, on a logarithmic scale."""
    floor = max(float(density.max()), 1e-300) * 1e-7
    low, high = (np.maximum(density + sign * spread, floor) for sign in (-1, 1))
    axes.fill_between(grid, low, high, color=look.colour, alpha=0.3, linewidth=0, label="± standard error")
    axes.plot(grid, np.where(density > floor, density, np.nan), color=look.colour)
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
