"""A table as text, before it has a format."""

from dataclasses import dataclass

from optstudy.comparison.table import Comparison, Row


@dataclass(frozen=True)
class Table:
    """Headers, cells, and what is said under them."""

    headers: list[str]
    cells: list[list[str]]
    caption: str
    label: str  # of LaTeX


def p_label(p: float) -> str:
    """Return a p-value as a table shows it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004


def named(comparison: Comparison, row: Row | None = None) -> list[str]:
    """Return the cells that name a row, or their headers; the study only where there are several."""
    several = len({found.study for found in comparison.rows}) > 1
    if row is None:
        return ["Study"] * several + ["Optimizer", "Config"]
    return [row.study] * several + [comparison.looks[row.optimizer].label, row.config]
