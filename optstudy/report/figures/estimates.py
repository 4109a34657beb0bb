"""Figures of the results of `optstudy.curvature`: eigenvalues, a density, a trace, a landscape, layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from optstudy.curvature import Density, Eigenpairs, Estimate, Landscape, LayerSpectrum, Ratio
from optstudy.records.look import PLAIN
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.curvature import draw_density, draw_line, plane_figure
from optstudy.report.figures.rows import escape_math
from optstudy.report.figures.style import GREY, INK, new_figure, styled

_COLOUR = "#0072B2"
_LOOK = type(PLAIN)("", _COLOUR, "-o")
_MARKERS = "osD^v"  # of the first, second, ... eigenvalue of a layer
_ROW = 0.28  # inches, of a layer
_LETTER = 0.07  # inches, of a layer's name


@styled
def eigenvalues(pairs: Eigenpairs, title: str = "") -> Figure:
    """Draw eigenvalues in order, with their residuals as error bars."""
    figure = new_figure(4.8, 3.0)
    axes = figure.add_subplot(xlabel="Index", ylabel=f"Eigenvalue of the {pairs.operator}")
    about = [] if pairs.converged else ["not converged"]
    if len(pairs.values) > 1 and pairs.order == "magnitude":
        about.insert(0, _ratio_label(pairs.ratio))
    axes.set_title(_heading(title, *about))
    index = np.arange(1, 1 + len(pairs.values))
    axes.vlines(index, 0, pairs.values.numpy(), color=_COLOUR, linewidth=1)
    axes.errorbar(index, pairs.values.numpy(), pairs.residuals.numpy(), fmt="o", color=_COLOUR, capsize=3)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, len(index) + 0.5)
    return figure


@styled
def density(result: Density, title: str = "") -> Figure:
    """Draw a spectral density with its standard error."""
    figure = new_figure(5.2, 3.0)
    axes = figure.add_subplot(xlabel="Eigenvalue", ylabel="Density")
    about = f"smoothed by a Gaussian of width {result.width:.2g}, L1 error up to {result.error:.2g}"
    axes.set_title(_heading(title, about))
    draw_density(axes, result.grid.numpy(), result.density.numpy(), result.spread.numpy(), _LOOK)
    figure.legend(loc="outside lower center")
    return figure


@styled
def landscape(result: Landscape, title: str = "") -> Figure:
    """Draw a loss along a line with its quadratic model, or over a plane."""
    if len(result.distances) > 1:
        first, second = (axis.numpy() for axis in result.distances)
        if min(len(first), len(second)) < 2:  # noqa: PLR2004  # a surface has area
            raise ValueError("a plane needs at least two distances along each direction to be drawn")
        heading = _heading(title, "loss around the weights (+)")
        return plane_figure((first, second), result.losses.numpy(), heading, "direction", aspect="auto")
    figure = new_figure(4.8, 3.2)
    axes = figure.add_subplot(xlabel="Distance along the direction", ylabel="Loss")
    axes.set_title(_heading(title))
    line = (result.distances[0].numpy(), result.losses.numpy(), result.quadratic.numpy())
    draw_line(axes, *line, look=_LOOK, label="loss")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def interval(result: Estimate | Ratio, title: str = "") -> Figure:
    """Draw a number with its interval."""
    figure = new_figure(4.8, 1.5)
    ratio = isinstance(result, Ratio)
    axes = figure.add_subplot(xlabel=r"$|\lambda_1|\,/\,|\lambda_2|$" if ratio else "Estimate")
    about = _ratio_label(result) if isinstance(result, Ratio) else f"{result.value:.4g}, 95 % interval"
    axes.set_title(_heading(title, about))
    ends = [value for value in (result.low, result.high) if np.isfinite(value)]
    if np.isfinite(result.value):
        axes.plot(result.value, 0, "o", color=_COLOUR)
    axes.plot([min(ends), max(ends)] if ends else [], [0, 0] if ends else [], "-|", color=_COLOUR, ms=12)
    if ratio:
        axes.axvline(1, color=GREY, linewidth=0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.15)
    return figure


@styled
def layers(spectra: Mapping[str, LayerSpectrum], title: str = "") -> Figure:
    """Draw the eigenvalues of each layer, and below them the densities that were estimated."""
    densities = {name: one.density for name, one in spectra.items() if one.density is not None}
    heights = [1.3 + _ROW * len(spectra), *[1.1] * len(densities)]
    figure = new_figure(5 + _LETTER * max(map(len, spectra)), sum(heights))
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    panels[0].set_title(_heading(title, "eigenvalues of each layer's block, by magnitude"))
    _layer_panel(panels[0], list(spectra.values()))
    for axes, (name, result) in zip(panels[1:], densities.items(), strict=True):
        draw_density(axes, result.grid.numpy(), result.density.numpy(), result.spread.numpy(), _LOOK)
        axes.set_title(_name(name), fontsize=8)
        axes.set_ylabel("Density")
    if densities:
        panels[-1].set_xlabel("Eigenvalue")
    return figure


def _layer_panel(axes: Axes, spectra: Sequence[LayerSpectrum]) -> None:
    """Draw eigenvalues by layer, the first layer at the top; negative ones are open."""
    sizes = [np.abs(one.pairs.values.numpy()) for one in spectra]
    for index in range(max(map(len, sizes))):
        marker = _MARKERS[min(index, len(_MARKERS) - 1)]
        for row, one in enumerate(spectra):
            value = float(one.pairs.values[index]) if index < len(one.pairs.values) else 0.0
            if value:  # 0 has no logarithm
                face = _COLOUR if value > 0 else "white"
                axes.plot(abs(value), row, marker, color=_COLOUR, markerfacecolor=face, ms=5)
        axes.plot([], [], marker, color=_COLOUR, label=rf"$|\lambda_{{{index + 1}}}|$")
    if any(bool((one.pairs.values < 0).any()) for one in spectra):
        axes.plot([], [], "o", color=INK, markerfacecolor="white", label="negative")
    log_axis(axes, "x", [float(value) for size in sizes for value in size if value > 0])
    names = [_name(one.layer) + ": all 0" * (not one.pairs.values.any()) for one in spectra]
    axes.set_yticks(range(len(spectra)), names)
    axes.set_ylim(len(spectra) - 0.5, -0.5)
    axes.set_xlabel("Magnitude")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _name(layer: str) -> str:
    return escape_math(layer) or "(the model)"


def _ratio_label(ratio: Ratio) -> str:
    sign = {"same": "same sign", "opposite": "opposite signs", "open": "sign open"}[ratio.sign]
    return f"ratio {ratio.value:.4g} in [{ratio.low:.4g}, {ratio.high:.4g}]: {ratio.verdict}, {sign}"


def _heading(title: str, *lines: str) -> Any:
    return "\n".join(filter(None, [escape_math(title), *lines]))
