"""The classes table: test accuracy with Wilson's interval over the test images, and the worst class, by row."""

from optstudy.comparison.table import Comparison
from optstudy.report.tables.table import Table, number_column, optional_cells, row_columns, text_column


def classes_table(comparison: Comparison) -> Table:
    """Return the table of the sampling error of the test images, and of the worst class."""
    images = [row.images for row in comparison.rows]
    columns = [
        *row_columns(comparison),
        number_column("Test (%)", (f"{100 * row.test_accuracy.mean:.2f}" for row in comparison.rows)),
        number_column(
            "Wilson's interval",
            optional_cells(images, lambda summary: f"{100 * summary.low:.2f} to {100 * summary.high:.2f}"),
        ),
        text_column("Worst class", optional_cells(images, lambda summary: summary.worst_name)),
        number_column(
            "Its accuracy (%)", optional_cells(images, lambda summary: f"{100 * summary.worst_accuracy:.2f}")
        ),
    ]
    counts = (
        ", ".join(f"{count:,}" for count in sorted({summary.count for summary in images if summary})) or "no"
    )
    caption = (
        f"Wilson's 95 % interval, for the mean accuracy over seeds on {counts} test examples, is approximately an upper"
        " bound on the sampling error of the test examples. The worst class is the one with the lowest mean accuracy"
        " over seeds."
    )
    return Table(tuple(columns), caption, "tab:classes")
