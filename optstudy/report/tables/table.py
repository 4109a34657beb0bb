"""The cells and columns of a table, before it is written as LaTeX, Markdown or CSV."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from optstudy.comparison.table import Comparison

T = TypeVar("T")
UNKNOWN = "--"


@dataclass(frozen=True)
class Column:
    """A header and its cells, from the top down."""

    header: str
    cells: tuple[str, ...]
    numeric: bool  # numbers are aligned to the right, words to the left

    @property
    def side(self) -> Literal["left", "right"]:
        """The side to which the cells are aligned, in every format."""
        return "right" if self.numeric else "left"


@dataclass(frozen=True)
class Table:
    """Columns of one length, and what is said under them."""

    columns: tuple[Column, ...]
    caption: str
    label: str  # of LaTeX

    @property
    def headers(self) -> list[str]:
        """The header of each column."""
        return [column.header for column in self.columns]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of each row."""
        return [list(row) for row in zip(*(column.cells for column in self.columns), strict=True)]


def words(header: str, cells: Iterable[str]) -> Column:
    """Return a column of words."""
    return Column(header, tuple(cells), numeric=False)


def numbers(header: str, cells: Iterable[str]) -> Column:
    """Return a column of numbers."""
    return Column(header, tuple(cells), numeric=True)


def p_label(p: float) -> str:
    """Return a p-value as a table shows it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004


def known(values: Sequence[T | None], cell: Callable[[T], str]) -> Iterator[str]:
    """Yield a cell for each value that is known, and a dash for each that is not."""
    return (UNKNOWN if value is None else cell(value) for value in values)


def number(value: float, form: str) -> str:
    """Return a number in a format such as ``.1f``; a dash where it is not finite."""
    return format(value, form) if math.isfinite(value) else UNKNOWN


def study_column(studies: Iterable[str]) -> list[Column]:
    """Return the column that names each row's study; none where it is the same in all."""
    names = tuple(studies)
    return [words("Study", names)] if len(set(names)) > 1 else []


def row_columns(comparison: Comparison) -> list[Column]:
    """Return the columns that name the rows of a comparison."""
    rows = comparison.rows
    return [
        *study_column(row.study for row in rows),
        words("Optimizer", (comparison.looks[row.optimizer].label for row in rows)),
        words("Config", (row.config for row in rows)),
    ]
