"""The comparison as text: the cells of its tables, what is said under them, and each format."""

from __future__ import annotations

from optstudy.comparison.table import Accuracy, Comparison, Row
from optstudy.report.tables.table import named


def columns(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Write every cell of the table as text, the same for the terminal, Markdown and LaTeX.

    Returns:
        Headers, and as many cells a row: study (only of several), optimizer, configuration, seeds, accuracies
        in per cent, "± half width" where it is known. The paper's values have columns of their own where any
        row has some; "--" stands where there is none.
    """
    published = any(row.test_accuracy.paper is not None for row in comparison.rows)
    headers = [*named(comparison), "Seeds"]
    for part in ("Train", "Test"):
        headers += [f"{part} (%)"] + ["Paper's", "Diff."] * published
    cells = [_cells(comparison, row, published=published) for row in comparison.rows]
    if not comparison.pairs:
        return headers, cells
    return [*headers, "Rank"], [[*some, row.rank] for some, row in zip(cells, comparison.rows, strict=True)]


def caption(comparison: Comparison) -> str:
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


def _cells(comparison: Comparison, row: Row, *, published: bool) -> list[str]:
    seeds = f"{row.seeds} ({row.diverged} diverged)" if row.diverged else str(row.seeds)
    cells = [*named(comparison, row), seeds]
    for accuracy in (row.train_accuracy, row.test_accuracy):
        cells += [_percent(accuracy)] + _beside(accuracy) * published
    return cells


def _beside(accuracy: Accuracy) -> list[str]:
    """Format the paper's value, and ours minus it in percentage points."""
    if accuracy.paper is None:
        return ["--", "--"]
    return [f"{100 * accuracy.paper:.2f}", f"{100 * (accuracy.mean - accuracy.paper):+.2f}"]


def _percent(accuracy: Accuracy) -> str:
    if accuracy.low is None or accuracy.high is None:
        return f"{100 * accuracy.mean:.2f}"
    return f"{100 * accuracy.mean:.2f} ± {50 * (accuracy.high - accuracy.low):.2f}"
