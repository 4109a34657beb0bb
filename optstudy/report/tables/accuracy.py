"""The accuracy table, Table I of the paper: train and test accuracy with intervals, and rank, by row."""

from collections.abc import Sequence

from optstudy.comparison.table import Accuracy, Comparison
from optstudy.report.tables.table import UNKNOWN, Column, Table, numbers, row_columns


def accuracy_table(comparison: Comparison) -> Table:
    """Write the accuracies of each row in per cent, "± half width" where that is known.

    The paper's values have columns of their own where any row has some. Rows have ranks where there are pairs.
    """
    rows = comparison.rows
    seeds = (f"{row.seeds} ({row.diverged} diverged)" if row.diverged else str(row.seeds) for row in rows)
    columns = [*row_columns(comparison), numbers("Seeds", seeds)]
    columns += _accuracy_columns("Train (%)", [row.train_accuracy for row in rows])
    columns += _accuracy_columns("Test (%)", [row.test_accuracy for row in rows])
    if comparison.pairs:
        columns.append(numbers("Rank", (row.rank for row in rows)))
    return Table(tuple(columns), accuracy_caption(comparison), "tab:comparison")


def accuracy_caption(comparison: Comparison) -> str:
    """Say what the numbers of the table are and what was left out, for printing under it."""
    rows = comparison.rows
    sentences = [] if rows else ["There are no finished final runs."]
    if any(row.seeds > 1 for row in rows):
        sentences += [
            "Accuracy is the mean over seeds, ± half the width of its 95 % Student t interval over seeds.",
            "The interval leaves out the sampling error of the test images.",
        ]
    if any(row.test_accuracy.paper is not None for row in rows):
        sentences += [
            "The paper's values are of one seed; Diff. is ours minus the paper's, in percentage points."
        ]
    if any(row.seeds == 1 for row in rows):
        sentences += ["One seed shows no spread."]
    if comparison.pairs:
        sentences += [
            "A row has a rank where each of its pairs is decided; tie means that at least one is open."
        ]
    if diverged := sum(row.diverged for row in rows):
        sentences += [f"Diverged runs ({diverged}) count with the accuracy that they have."]
    if left_out := ", ".join(f"{count} {why}" for why, count in comparison.excluded.items() if count):
        sentences += [f"Runs left out: {left_out}."]
    return " ".join(sentences)


def _accuracy_columns(header: str, found: Sequence[Accuracy]) -> list[Column]:
    """Write accuracies, and beside them the paper's and the differences where there are any."""
    columns = [numbers(header, map(_percent, found))]
    if any(accuracy.paper is not None for accuracy in found):
        columns += [numbers("Paper's", map(_paper, found)), numbers("Diff.", map(_difference, found))]
    return columns


def _percent(accuracy: Accuracy) -> str:
    if accuracy.low is None or accuracy.high is None:
        return f"{100 * accuracy.mean:.2f}"
    return f"{100 * accuracy.mean:.2f} ± {50 * (accuracy.high - accuracy.low):.2f}"


def _paper(accuracy: Accuracy) -> str:
    return UNKNOWN if accuracy.paper is None else f"{100 * accuracy.paper:.2f}"


def _difference(accuracy: Accuracy) -> str:
    return UNKNOWN if accuracy.paper is None else f"{100 * (accuracy.mean - accuracy.paper):+.2f}"
