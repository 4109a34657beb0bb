"""Cost, geometry and classes of a comparison as tables."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from optstudy.comparison.summaries import Geometry
from optstudy.comparison.table import Comparison
from optstudy.report.tables.table import UNKNOWN, Table, numbers, row_columns, words
from optstudy.statistics import Interval

T = TypeVar("T")
FEWEST_RANKED = 5  # runs; of fewer a rank correlation describes nothing


def cost_table(comparison: Comparison) -> Table:
    """Write what training took, and how soon the target was reached."""
    rows, target = comparison.rows, [row.to_target for row in comparison.rows]
    reached = [one and f"{one.reached} of {row.seeds}" for row, one in zip(rows, target, strict=True)]
    columns = [
        *row_columns(comparison),
        numbers("Seeds", (str(row.seeds) for row in rows)),
        numbers("ms per step", _known([row.step_seconds for row in rows], lambda one: f"{1000 * one:.2f}")),
        numbers("Seconds", (f"{row.seconds:.1f}" for row in rows)),
        numbers("Gradient work", (f"{row.gradient_work:,.0f}" for row in rows)),
        numbers("Reached", _known(reached, str)),
        numbers("Epochs to target", _known(target, lambda one: _number(one.epochs, "g"))),
        numbers("Seconds to target", _known(target, lambda one: _number(one.seconds, ".1f"))),
    ]
    return Table(tuple(columns), _cost_caption({one.target for one in target if one}), "tab:cost")


def _cost_caption(targets: set[float]) -> str:
    said = ", ".join(f"{100 * target:g} %" for target in sorted(targets))
    work = "gradient work (a forward and backward pass of one mini-batch is 1, a Hessian product 2)"
    timed = (
        "Milliseconds are those of 100 steps timed while the other workers idled, and seconds are at that pace;"
        f" where none were timed ({UNKNOWN}), seconds are by the clock, and other runs may have slowed them."
    )
    sentences = [
        f"Seconds of training and {work} are means over seeds; probes and evaluation are not counted.",
        timed,
    ]
    if targets:
        sentences.append(
            f"The target is a test accuracy of {said}, fixed with the study, and nothing is chosen by it. Epochs and"
            " seconds are medians over seeds; a seed that never reached it counts as later than all others, and"
            " where half of them or more never did there is no median."
        )
    return " ".join(sentences)


def geometry_table(comparison: Comparison) -> Table:
    """Write the curvature where the seeds ended."""
    found = [row.geometry for row in comparison.rows]
    columns = [
        *row_columns(comparison),
        numbers("Runs", (str(one.runs) if one else "0" for one in found)),
        numbers("First eigenvalue", _known(found, lambda one: _interval(one.lambda_1))),
        numbers("Second", _known(found, lambda one: _interval(one.lambda_2))),
        numbers("Ratio", _known(found, lambda one: _interval(one.ratio))),
        words("Verdicts", _known(found, _verdicts)),
        numbers("Steps separated", _known(found, lambda one: _share(one.separated.mean))),
        numbers("Trace", _known(found, lambda one: _interval(one.trace))),
        numbers("Loss rise", _known(found, lambda one: _interval(one.loss_rise))),
        numbers("tau", _known(found, _tau)),
    ]
    under = (
        "Means over the runs where curvature was measured, ± half the width of the 95 % Student t interval over"
        " seeds, on each study's own sample. Verdicts are of the ratio in each run, and a step is"
        " separated where its ratio is during the last steps of training. Eigenvalues keep their signs. Loss rise is"
        " how much the loss rises at distance 1 along the first eigenvector, mean of both sides. tau is Kendall's tau-b"
        " of that rise with the test error over these runs alone, where there are 5 or more:"
        " it describes them, and proves nothing of flatness."
    )
    return Table(tuple(columns), under, "tab:geometry")


def _verdicts(found: Geometry) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())


def _tau(found: Geometry) -> str:
    return _number(found.flatness.tau, "+.2f") if found.runs >= FEWEST_RANKED else UNKNOWN


def classes_table(comparison: Comparison) -> Table:
    """Write the sampling error of the test images, and the class that is classified worst."""
    found = [row.images for row in comparison.rows]
    columns = [
        *row_columns(comparison),
        numbers("Test (%)", (f"{100 * row.test_accuracy.mean:.2f}" for row in comparison.rows)),
        numbers(
            "Wilson's interval", _known(found, lambda one: f"{100 * one.low:.2f} to {100 * one.high:.2f}")
        ),
        numbers("Worst class", _known(found, lambda one: str(one.worst_class))),
        numbers("Its accuracy (%)", _known(found, lambda one: f"{100 * one.worst_accuracy:.2f}")),
    ]
    many = ", ".join(f"{count:,}" for count in sorted({one.count for one in found if one})) or "no"
    under = (
        f"Wilson's 95 % interval is that of the mean accuracy over seeds on {many} test images: at most about how far"
        " another draw of images would move it, whatever the seed. The worst class is that of the lowest mean"
        " accuracy over seeds."
    )
    return Table(tuple(columns), under, "tab:classes")


def _known(found: Sequence[T | None], cell: Callable[[T], str]) -> Iterator[str]:
    """Yield a cell for each value that is known, and a dash for each that is not."""
    return (UNKNOWN if one is None else cell(one) for one in found)


def _interval(interval: Interval) -> str:
    if not math.isfinite(interval.mean):
        return UNKNOWN
    half = interval.half_width
    return f"{interval.mean:.3g}" + (f" ± {half:.2g}" if half is not None else "")


def _share(value: float) -> str:
    """Write a share in per cent, but 100 only for all of it and 0 only for nothing."""
    if not math.isfinite(value):
        return UNKNOWN
    if value not in (0.0, 1.0) and round(100 * value) in (0, 100):
        return "< 1 %" if value < 0.5 else "> 99 %"  # noqa: PLR2004
    return f"{100 * value:.0f} %"


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else UNKNOWN
