"""First eigenvalue and ratio against the size of the sample on which they are measured."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from optstudy.records.curvature import CurvatureResult
from optstudy.records.look import Looks
from optstudy.report.figures.axes import log_axis
from optstudy.report.figures.style import GREY, new_figure, styled

_WIDTH = 95  # characters of a legend line
_MAX_NAMED = 6  # runs; with more, only the optimizers are named
_LINES: dict[str, Any] = {"start": ":", "middle": "--", "end": "-"}  # if there are several points
_FILLS: dict[str, Any] = {"start": "none", "middle": "left", "end": "full"}


def _first(result: CurvatureResult) -> float:
    return abs(float(result.values[0])) or math.nan  # zero has no logarithm


def _ratio(result: CurvatureResult) -> float:
    return float(result.ratio[0]) if math.isfinite(result.ratio[0]) else math.nan


@styled
def sample_sweep(results: Sequence[CurvatureResult], looks: Looks) -> Figure:
    """Draw the first eigenvalue and the ratio of the first two against the size of the sample.

    Args:
        results: Results by run and sample; several draws of one size are points, with a line through their means.
        looks: Looks of the optimizers.
    """
    figure = new_figure(6.4, 5.2)
    top, bottom = figure.subplots(2, 1, sharex=True)
    lines = dict.fromkeys((result.run, result.at) for result in results)
    points = dict.fromkeys(at for _, at in lines)
    several = len({result.run for result in results}) > _MAX_NAMED
    for name, at in lines:
        own = [result for result in results if (result.run, result.at) == (name, at)]
        look = looks[own[0].optimizer]
        sizes = sorted({result.samples for result in own})
        for axes, value in ((top, _first), (bottom, _ratio)):
            means = []
            for size in sizes:
                values = [value(result) for result in own if result.samples == size]
                means.append(sum(values) / len(values))
                axes.plot(
                    [size] * len(values),
                    values,
                    look.marker,
                    color=look.colour,
                    fillstyle=_FILLS[at],
                    ms=4,
                    alpha=0.7,
                )
            axes.plot(
                sizes,
                means,
                color=look.colour,
                linestyle=look.line if len(points) == 1 else _LINES[at],
                label=look.label if several else name,
            )
    log_axis(top, "y", [_first(result) for result in results])
    log_axis(bottom, "y", [1.0, *map(_ratio, results)])
    log_axis(bottom, "x", [result.samples for result in results])
    bottom.xaxis.set_major_locator(FixedLocator(_spaced(sorted({result.samples for result in results}))))
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    bottom.xaxis.set_minor_locator(NullLocator())
    points_text = " and ".join(points)
    top.set_title(f"Largest eigenvalues at the {points_text} of training, lines are means over draws")
    top.set_ylabel(r"$|\lambda_1|$")
    bottom.axhline(1, color=GREY, linewidth=0.8)
    bottom.set(xlabel="Training examples in the sample", ylabel=r"$|\lambda_1|\,/\,|\lambda_2|$")
    handles, labels = bottom.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))  # each label once
    if len(points) > 1:
        named |= {
            f"at the {at}": Line2D(
                [], [], color=GREY, marker="o", fillstyle=_FILLS[at], linestyle=_LINES[at], ms=5
            )
            for at in points
        }
    figure.legend([*named.values()], [*named], loc="outside lower center", ncols=_columns(list(named)))
    return figure


def _spaced(sizes: Sequence[int]) -> list[int]:
    """Return the sizes that can be labelled on a logarithmic axis without overlap."""
    min_ratio = (sizes[-1] / sizes[0]) ** (1 / 8)
    labelled: list[int] = []
    for size in reversed(sizes):
        if not labelled or labelled[-1] >= min_ratio * size:
            labelled.append(size)
    return labelled


def _columns(names: Sequence[str]) -> int:
    """Return the number of legend columns that fit."""
    return max(1, min(4, _WIDTH // (max(map(len, names)) + 8)))
