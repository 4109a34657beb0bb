"""How the curvature depends on the sample that it is measured on."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from optstudy.figures.axes import log_axis
from optstudy.figures.style import GREY, figure, label_of, mark_of, styled
from optstudy.measure import Measured

_MOST_NAMED = 6  # runs; of more, the optimizers alone are named
_FILLS: dict[str, Any] = {"start": "none", "middle": "left", "end": "full"}


def _first(one: Measured) -> float:
    return abs(one.eigenvalues[0])


def _ratio(one: Measured) -> float:
    return one.ratio


@styled
def sample_sweep(found: Sequence[Measured]) -> Figure:
    """Draw the first eigenvalue and the ratio of the first two against the size of the sample.

    Args:
        found: What was measured; several draws of a size are points above each other, joined by their means.
    """
    drawn = figure(6.4, 5.2)
    top, bottom = drawn.subplots(2, 1, sharex=True)
    lines = dict.fromkeys((one.name, one.at) for one in found)
    several = len({one.name for one in found}) > _MOST_NAMED
    for name, at in lines:
        own = [one for one in found if (one.name, one.at) == (name, at)]
        mark = mark_of(own[0].optimizer)
        sizes = sorted({one.samples for one in own})
        for axes, value in ((top, _first), (bottom, _ratio)):
            means = []
            for size in sizes:
                values = [value(one) for one in own if one.samples == size]
                means.append(sum(values) / len(values))
                axes.plot(
                    [size] * len(values),
                    values,
                    mark.marker,
                    color=mark.colour,
                    fillstyle=_FILLS[at],
                    ms=4,
                    alpha=0.7,
                )
            axes.plot(
                sizes,
                means,
                color=mark.colour,
                linestyle=mark.line,
                label=label_of(own[0].optimizer) if several else name,
            )
    log_axis(top, "y", [_first(one) for one in found])
    log_axis(bottom, "x", [one.samples for one in found])
    top.set_ylabel(r"$|\lambda_1|$")
    bottom.axhline(1, color=GREY, linewidth=0.8)
    bottom.set(xlabel="Training images in the sample", ylabel=r"$|\lambda_1|\,/\,|\lambda_2|$")
    bottom.xaxis.set_minor_formatter(NullFormatter())
    handles, labels = bottom.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))  # once each
    points = dict.fromkeys(at for _, at in lines)
    if len(points) > 1:
        named |= {
            f"at the {at}": Line2D([], [], color=GREY, marker="o", fillstyle=_FILLS[at], linestyle="", ms=5)
            for at in points
        }
    drawn.legend([*named.values()], [*named], loc="outside lower center", ncols=4)
    return drawn
