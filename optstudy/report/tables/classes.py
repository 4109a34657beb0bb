"""The classes table: test accuracy with Wilson's interval over the test images, and the worst class, by row."""

from optstudy.comparison.table import Comparison
from optstudy.report.tables.table import Table, known, numbers, row_columns


def classes_table(comparison: Comparison) -> Table:
    """Return the table of the sampling error of the test images, and of the worst class."""
    images = [row.images for row in comparison.rows]
    columns = [
        *row_columns(comparison),
        numbers("Test (%)", (f"{100 * row.test_accuracy.mean:.2f}" for row in comparison.rows)),
        numbers(
            "Wilson's interval", known(images, lambda one: f"{100 * one.low:.2f} to {100 * one.high:.2f}")
        ),
        numbers("Worst class", known(images, lambda one: str(one.worst_class))),
        numbers("Its accuracy (%)", known(images, lambda one: f"{100 * one.worst_accuracy:.2f}")),
    ]
    many = ", ".join(f"{count:,}" for count in sorted({one.count for one in images if one})) or "no"
    caption = (
        f"Wilson's 95 % interval, for the mean accuracy over seeds on {many} test images, is approximately an upper"
        " bound on the sampling error of the test images. The worst class is the one with the lowest mean accuracy"
        " over seeds."
    )
    return Table(tuple(columns), caption, "tab:classes")
