"""Cost, geometry and classes of a comparison as text."""

import math

from optstudy.comparison.table import Comparison, Row
from optstudy.report.tables.table import Table, named, p_label
from optstudy.statistics import Interval

UNKNOWN = "--"
FEWEST_RANKED = 5  # runs; of fewer a rank correlation describes nothing


def cost_table(comparison: Comparison) -> Table:
    """Write what training took, and how soon the target was reached."""
    headers = [
        "Seeds",
        "ms a step",
        "Seconds",
        "Gradient work",
        "Reached",
        "Epochs to target",
        "Seconds to target",
    ]
    targets = {row.to_target.target for row in comparison.rows if row.to_target is not None}
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
    cells = [named(comparison, row) + _cost_cells(row) for row in comparison.rows]
    return Table([*named(comparison), *headers], cells, " ".join(sentences), "tab:cost")


def _cost_cells(row: Row) -> list[str]:
    found = row.to_target
    target = [UNKNOWN] * 3
    if found is not None:
        target = [
            f"{found.reached} of {row.seeds}",
            _number(found.epochs, "g"),
            _number(found.seconds, ".1f"),
        ]
    pace = UNKNOWN if row.step_seconds is None else f"{1000 * row.step_seconds:.2f}"
    return [str(row.seeds), pace, f"{row.seconds:.1f}", f"{row.gradient_work:,.0f}", *target]


def geometry_table(comparison: Comparison) -> Table:
    """Write the curvature where the seeds ended."""
    headers = [
        "Runs",
        "First eigenvalue",
        "Second",
        "Ratio",
        "Verdicts",
        "Steps separated",
        "Trace",
        "Loss rise",
        "tau",
    ]
    cells = [named(comparison, row) + _geometry_cells(row) for row in comparison.rows]
    under = (
        "Means over the runs where curvature was measured, ± half the width of the 95 % Student t interval over"
        " seeds, on each study's own sample. Verdicts are of the ratio in each run, and a step is"
        " separated where its ratio is during the last steps of training. Eigenvalues keep their signs. Loss rise is"
        " how much the loss rises at distance 1 along the first eigenvector, mean of both sides. tau is Kendall's tau-b"
        " of that rise with the test error over these runs alone, where there are 5 or more:"
        " it describes them, and proves nothing of flatness."
    )
    return Table([*named(comparison), *headers], cells, under, "tab:geometry")


def _geometry_cells(row: Row) -> list[str]:
    found = row.geometry
    if found is None:
        return ["0", *[UNKNOWN] * 8]
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())
    return [
        str(found.runs),
        _interval(found.lambda_1),
        _interval(found.lambda_2),
        _interval(found.ratio),
        verdicts,
        _share(found.separated.mean),
        _interval(found.trace),
        _interval(found.loss_rise),
        _number(found.flatness.tau, "+.2f") if found.runs >= FEWEST_RANKED else UNKNOWN,
    ]


def classes_table(comparison: Comparison) -> Table:
    """Write the sampling error of the test images, and the class that is classified worst."""
    headers = ["Test (%)", "Wilson's interval", "Worst class", "Its accuracy (%)"]
    cells = [named(comparison, row) + _class_cells(row) for row in comparison.rows]
    counts = sorted({row.images.count for row in comparison.rows if row.images is not None})
    many = ", ".join(f"{count:,}" for count in counts) or "no"
    under = (
        f"Wilson's 95 % interval is that of the mean accuracy over seeds on {many} test images: at most about how far"
        " another draw of images would move it, whatever the seed. The worst class is that of the lowest mean"
        " accuracy over seeds."
    )
    return Table([*named(comparison), *headers], cells, under, "tab:classes")


def _class_cells(row: Row) -> list[str]:
    found = row.images
    mean = f"{100 * row.test_accuracy.mean:.2f}"
    if found is None:
        return [mean, *[UNKNOWN] * 3]
    between = f"{100 * found.low:.2f} to {100 * found.high:.2f}"
    return [mean, between, str(found.worst_class), f"{100 * found.worst_accuracy:.2f}"]


def networks_table(comparison: Comparison) -> Table:
    """Write McNemar's test of each seed's two networks."""
    several = len({pair.study for pair in comparison.pairs}) > 1
    headers = ["A", "B", "Seed", "only A correct", "only B correct", "p (McNemar)"]
    cells = [
        [pair.study] * several
        + [
            comparison.looks.row(pair.a),
            comparison.looks.row(pair.b),
            str(seed),
            str(found.first_only),
            str(found.second_only),
            p_label(found.p),
        ]
        for pair in comparison.pairs
        for seed, found in pair.networks.items()
    ]
    under = (
        "McNemar's exact test of these two networks, on the test images that only one of them classifies correctly. It"
        " says nothing about their optimizers: between equal ones it claims a difference far more often than it should,"
        " since another seed gives another network."
    )
    return Table(["Study"] * several + headers, cells, under, "tab:networks")


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
