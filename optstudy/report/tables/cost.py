"""The cost table: ms per step, seconds, gradient work, and epochs and seconds to the target, by row."""

from optstudy.comparison.table import Comparison
from optstudy.report.tables.table import UNKNOWN, Table, known, number, numbers, row_columns


def cost_table(comparison: Comparison) -> Table:
    """Return the table of training costs, and of the costs to reach the target."""
    rows, target = comparison.rows, [row.to_target for row in comparison.rows]
    reached = [one and f"{one.reached} of {row.seeds}" for row, one in zip(rows, target, strict=True)]
    columns = [
        *row_columns(comparison),
        numbers("Seeds", (str(row.seeds) for row in rows)),
        numbers("ms per step", known([row.step_seconds for row in rows], lambda one: f"{1000 * one:.2f}")),
        numbers("Seconds", (f"{row.seconds:.1f}" for row in rows)),
        numbers("Gradient work", (f"{row.gradient_work:,.0f}" for row in rows)),
        numbers("Reached", known(reached, str)),
        numbers("Epochs to target", known(target, lambda one: number(one.epochs, "g"))),
        numbers("Seconds to target", known(target, lambda one: number(one.seconds, ".1f"))),
    ]
    return Table(tuple(columns), _cost_caption({one.target for one in target if one}), "tab:cost")


def _cost_caption(targets: set[float]) -> str:
    shown = ", ".join(f"{100 * target:g} %" for target in sorted(targets))
    work = "gradient work (a forward and backward pass of one mini-batch is 1, a Hessian product 2)"
    timed = (
        "Milliseconds are those of 100 steps timed while the other workers were idle, and seconds are computed from"
        f" them; where no steps were timed ({UNKNOWN}), seconds are measured, and other runs may have slowed them down."
    )
    sentences = [
        f"Seconds of training and {work} are means over seeds; probes and evaluation are not counted.",
        timed,
    ]
    if targets:
        sentences.append(
            f"The target is a test accuracy of {shown}, fixed with the study; no choice depends on it. Epochs and"
            " seconds are medians over seeds; a seed that never reached the target counts as later than all others, so"
            " there is no median if half of the seeds or more never did."
        )
    return " ".join(sentences)
