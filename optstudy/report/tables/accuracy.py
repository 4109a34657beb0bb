"""The accuracy table, Table I of the paper: train and test accuracy with intervals, and rank, by row."""

from collections.abc import Sequence

from optstudy.comparison.table import Comparison
from optstudy.report.tables.geometry import missing_sentences
from optstudy.report.tables.table import Column, Table, number_column, optional_cells, row_columns
from optstudy.statistics import Interval


def accuracy_table(comparison: Comparison) -> Table:
    """Return the table of accuracies in per cent, with the paper's values and ranks if available."""
    rows = comparison.rows
    seeds = (f"{row.seeds} ({row.diverged} diverged)" if row.diverged else str(row.seeds) for row in rows)
    columns = [*row_columns(comparison), number_column("Seeds", seeds)]
    columns += _accuracy_columns(
        "Train (%)", [(row.train_accuracy, row.paper and row.paper[0]) for row in rows]
    )
    columns += _accuracy_columns(
        "Test (%)", [(row.test_accuracy, row.paper and row.paper[1]) for row in rows]
    )
    if comparison.pairs:
        columns.append(number_column("Rank", (row.rank for row in rows)))
    return Table(tuple(columns), accuracy_caption(comparison), "tab:comparison")


def accuracy_caption(comparison: Comparison) -> str:
    """Describe the numbers of the table, and the excluded runs."""
    rows = comparison.rows
    sentences = [] if rows else ["There are no finished final runs."]
    if any(row.seeds > 1 for row in rows):
        sentences += [
            "Accuracy is the mean over seeds, ± half the width of its 95 % Student t interval over seeds.",
            "The interval leaves out the sampling error of the test examples.",
        ]
    if any(
        (row.test_accuracy.half_width or 0) > 1 or (row.train_accuracy.half_width or 0) > 1 for row in rows
    ):
        sentences += ["An interval wider than ± 100 contains every possible accuracy."]
    if any(row.paper for row in rows):
        sentences += [
            "The paper's values are of one seed; Diff. is ours minus the paper's, in percentage points."
        ]
    if any(row.seeds == 1 for row in rows):
        sentences += ["One seed shows no spread."]
    if comparison.pairs:
        sentences += ["A row has a rank if all its pairs are decided, and is a tie otherwise."]
    if diverged := sum(row.diverged for row in rows):
        sentences += [f"Diverged runs ({diverged}) count with the accuracy that they have."]
    if excluded := ", ".join(f"{count} {why}" for why, count in comparison.excluded.items() if count):
        sentences += [f"Runs left out: {excluded}."]
    sentences += [f"Left out, since {damage.problem}: {damage.subject}." for damage in comparison.damaged]
    sentences += missing_sentences(comparison)
    return " ".join(sentences)


def _accuracy_columns(header: str, accuracies: Sequence[tuple[Interval, float | None]]) -> list[Column]:
    """Return the column of accuracies, followed by the paper's values and the differences if available."""
    columns = [number_column(header, (_percent(ours) for ours, _ in accuracies))]
    papers = [paper for _, paper in accuracies]
    if any(papers):
        differences = [paper and ours.mean - paper for ours, paper in accuracies]
        columns += [
            number_column("Paper's", optional_cells(papers, lambda paper: f"{100 * paper:.2f}")),
            number_column(
                "Diff.", optional_cells(differences, lambda difference: f"{100 * difference:+.2f}")
            ),
        ]
    return columns


def _percent(accuracy: Interval) -> str:
    half = accuracy.half_width
    return f"{100 * accuracy.mean:.2f}" + (f" ± {100 * half:.2f}" if half is not None else "")
