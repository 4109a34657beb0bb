"""Figures of the results of `optstudy.curvature`, for a notebook or a file."""

import warnings
from collections.abc import Mapping
from typing import Any

from optstudy.curvature import Density, Eigenpairs, Estimate, Landscape, LayerSpectrum, Ratio
from optstudy.records.eigen_trace import eigen_trace
from optstudy.records.run import Observation
from optstudy.report.figures import Figure, eigen_ratio, estimates, glyph_notice

__all__ = ["plot"]

Values = Mapping[str, float | str]  # of a step, as a tracker returns them


def plot(
    result: Eigenpairs
    | Ratio
    | Density
    | Estimate
    | Landscape
    | LayerSpectrum
    | Mapping[str, LayerSpectrum]
    | Mapping[int, Values],
    title: str = "",
) -> Figure:
    r"""Draw a result of `optstudy.curvature`.

    A notebook shows the figure when it is the last value of a cell; ``plot(result).savefig("name.png")`` writes it to a
    file. It does not use pyplot, so that no figure stays in memory.

    Args:
        result: Eigenpairs, their ratio, a spectral density, a trace, a landscape along a line or over a plane, the
            spectra of layers, or the values of an `EigenTracker` by step.
        title: First line of the title.

    Raises:
        TypeError: If the result is of another type.
        ValueError: If it is empty, or a plane of a single line.

    Example:
        >>> from optstudy.curvature import Estimate
        >>> plot(Estimate(value=3.0, low=2.0, high=4.0, products=90), "trace").axes[0].get_title(loc="left")
        'trace\n3, 95 % interval'
    """
    if notice := glyph_notice([title]):
        warnings.warn(notice, stacklevel=2)
    match result:
        case Eigenpairs():
            return estimates.eigenvalues(result, title)
        case Ratio() | Estimate():
            return estimates.interval(result, title)
        case Density():
            return estimates.density(result, title)
        case Landscape():
            return estimates.landscape(result, title)
        case LayerSpectrum():
            return estimates.layers({result.layer: result}, title)
        case Mapping():
            return _plot_mapping(result, title)
    raise TypeError(
        f"a {type(result).__name__} cannot be drawn; give a result of optstudy.curvature: eigenpairs, a ratio, a"
        " density, a trace, a landscape, the spectra of layers, or the values of a tracker by step"
    )


def _plot_mapping(result: Mapping[Any, Any], title: str) -> Figure:
    if not result:
        raise ValueError("there is nothing to draw: the result is empty")
    if all(isinstance(value, LayerSpectrum) for value in result.values()):
        return estimates.layers(result, title)
    if all(isinstance(step, int) and isinstance(values, Mapping) for step, values in result.items()):
        trace = eigen_trace([Observation("eigen", step, dict(values)) for step, values in result.items()])
        if trace is not None:
            return eigen_ratio(trace, title)
        raise ValueError(
            "no step has eigenvalues; the loss was not finite, or the preconditioner not positive"
        )
    raise TypeError("a mapping to draw has the spectra of layers by name, or the values of a tracker by step")
