"""Logarithmic axes with readable ticks, and accuracy axes that are logarithmic in the error."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedLocator,
    Formatter,
    FuncFormatter,
    Locator,
    LogFormatterMathtext,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)
from numpy.typing import NDArray

Side = Literal["x", "y"]

_SMALLEST_ERROR = 0.01  # per cent; drawn for an accuracy of 100, since an error of 0 has no logarithm
_MIN_TICKS = 3


def log_axis(axes: Axes, side: Side, values: Sequence[float]) -> None:
    """Make one axis logarithmic, with limits around the positive values and readable ticks.

    Args:
        axes: The axes.
        side: Which axis.
        values: Values to show; if none is positive, the axis goes from 0.1 to 1.
    """
    # Labels along x are side by side, so only a few short ones fit.
    min_span, max_span = (3.9, 200) if side == "x" else (1.2, 2000)
    low, high = _limits([value for value in values if value > 0] or [0.1, 1.0], min_span)
    axes.set(**{f"{side}lim": (low, high)})  # first, since a scale looks for positive values to fit
    axes.set(**{f"{side}scale": "log", f"{side}lim": (low, high)})
    axis = axes.xaxis if side == "x" else axes.yaxis
    locator, formatter = _log_ticks(high / low, max_span)
    axis.set_major_locator(locator)
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def _log_ticks(span: float, max_span: float) -> tuple[Locator, Formatter]:
    """Return ticks for an axis whose upper end is ``span`` times the lower; from ``max_span`` on, powers of 10 only."""
    plain = FuncFormatter(lambda value, _: f"{float(f'{value:.3g}'):,g}")  # 30,000 rather than 3e+04
    if span < 3:  # noqa: PLR2004 - the ticks below would be too sparse, likewise for the next two
        return MaxNLocator(4), plain
    if span < 6:  # noqa: PLR2004 - as above
        return LogLocator(subs=(1, 1.5, 2, 3, 5, 7)), plain
    if span < 12:  # noqa: PLR2004 - as above
        return LogLocator(subs=(1, 2, 5)), plain
    if span < max_span:
        return LogLocator(subs=(1, 3)), plain
    return LogLocator(numticks=6), LogFormatterMathtext()


def accuracy_axis(axes: Axes, side: Side, percents: Sequence[float]) -> None:
    """Scale an axis of accuracies by the logarithm of the error: 99 and 99.5 are as far apart as 90 and 95.

    Args:
        axes: The axes.
        side: Which axis.
        percents: Accuracies to show, in per cent; if empty, the axis goes from 90 to 99.
    """
    errors = [max(100 - percent, _SMALLEST_ERROR) for percent in percents]
    low, high = _limits(errors or [1.0, 10.0], min_span=1.2)
    set_scale = axes.set_xscale if side == "x" else axes.set_yscale
    set_scale("function", functions=(_to_scale, _from_scale))
    bottom, top = 100 - min(high, 100.0), 100 - low
    axes.set(**{f"{side}lim": (bottom, top)})
    ticks = [100 - first * 10.0**power for power in range(2, -4, -1) for first in (5, 2, 1)]
    inside = [tick for tick in ticks if bottom <= tick <= top]
    if side == "y" and inside:  # closer ticks near the top
        last_error = 100 - inside[-1]
        inside += [tick for tick in (100 - 0.8 * last_error, 100 - 0.6 * last_error) if tick <= top]
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(inside) if len(inside) >= _MIN_TICKS else MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _limits(values: Sequence[float], min_span: float) -> tuple[float, float]:
    """Widen the range of positive values by a sixth of its logarithm, to a ratio of at least ``min_span``."""
    low, high = min(values), max(values)
    span = high / low
    margin = max(span ** (1 / 12), (min_span / span) ** 0.5)
    return low / margin, high * margin


def _to_scale(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.log10(np.maximum(100 - percent, _SMALLEST_ERROR / 100))


def _from_scale(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(100 - 10**-scaled)
