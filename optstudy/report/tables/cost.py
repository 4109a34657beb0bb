"""The cost table: ms per step, seconds, gradient work, and epochs and seconds to the target, by row."""

from optstudy.comparison.table import Comparison
from optstudy.report.tables.table import (
    UNKNOWN,
    Table,
    format_number,
    number_column,
    optional_cells,
    row_columns,
)


def cost_table(comparison: Comparison) -> Table:
    """Return the table of training costs, and of the costs to reach the target."""
    rows, summaries = comparison.rows, [row.to_target for row in comparison.rows]
    reached = [
        summary and f"{summary.reached} of {row.seeds}" for row, summary in zip(rows, summaries, strict=True)
    ]
    columns = [
        *row_columns(comparison),
        number_column("Seeds", (str(row.seeds) for row in rows)),
        number_column(
            "ms per step",
            optional_cells([row.step_seconds for row in rows], lambda seconds: f"{1000 * seconds:.2f}"),
        ),
        number_column("Seconds", (f"{row.seconds:.1f}" for row in rows)),
        number_column("Gradient work", (f"{row.gradient_work:,.0f}" for row in rows)),
        number_column("Reached", optional_cells(reached, str)),
        number_column(
            "Epochs to target",
            optional_cells(summaries, lambda summary: format_number(summary.epochs, "g")),
        ),
        number_column(
            "Seconds to target",
            optional_cells(summaries, lambda summary: format_number(summary.seconds, ".1f")),
        ),
    ]
    return Table(
        tuple(columns), _cost_caption({summary.target for summary in summaries if summary}), "tab:cost"
    )


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
