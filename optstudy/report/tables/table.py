"""The columns of a table, independent of the format in which it is written."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from optstudy.comparison.table import Comparison

T = TypeVar("T")
UNKNOWN = "--"
LONGEST_REASON = 160  # characters of a reason in a table
MOST_REASONS = 3  # in a cell


@dataclass(frozen=True)
class Column:
    """A header and its cells, from the top down."""

    header: str
    cells: tuple[str, ...]
    numeric: bool  # right-aligned

    @property
    def side(self) -> Literal["left", "right"]:
        """The alignment of the cells in every format."""
        return "right" if self.numeric else "left"


@dataclass(frozen=True)
class Table:
    """Columns of the same length, with a caption."""

    columns: tuple[Column, ...]
    caption: str
    label: str  # LaTeX label

    @property
    def headers(self) -> list[str]:
        """The header of each column."""
        return [column.header for column in self.columns]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of each row."""
        return [list(row) for row in zip(*(column.cells for column in self.columns), strict=True)]


def text_column(header: str, cells: Iterable[str]) -> Column:
    """Return a left-aligned column."""
    return Column(header, tuple(cells), numeric=False)


def number_column(header: str, cells: Iterable[str]) -> Column:
    """Return a right-aligned column."""
    return Column(header, tuple(cells), numeric=True)


def count_label(noun: str, numbers: Iterable[int]) -> str:
    """Return a count, or the range of counts, with its noun: "1 seed", "10 seeds", "3 to 10 seeds"."""
    counts = sorted(numbers)
    ends = dict.fromkeys((counts[0], counts[-1]))
    return " to ".join(f"{end:,}" for end in ends) + f" {noun}{'' if counts[-1] == 1 else 's'}"


def reasons_label(noun: str, counts: Mapping[str, int]) -> str:
    """Return reasons, each with its count: "ValueError: lr is too small (2 trials)"; long ones are shortened."""
    shown = [
        f"{_shortened(reason)} ({count_label(noun, [count])})"
        for reason, count in list(counts.items())[:MOST_REASONS]
    ]
    more = len(counts) - len(shown)
    return "; ".join(shown) + (f"; and {count_label('other reason', [more])}" if more else "")


def _shortened(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 3]}..."


def p_label(p: float) -> str:
    """Format a p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004


def optional_cells(values: Sequence[T | None], cell: Callable[[T], str]) -> Iterator[str]:
    """Yield a cell for each value, a dash if it is None."""
    return (UNKNOWN if value is None else cell(value) for value in values)


def format_number(value: float, form: str) -> str:
    """Format a number, for example as ``.1f``; a dash if it is not finite."""
    return format(value, form) if math.isfinite(value) else UNKNOWN


def study_column(studies: Iterable[str]) -> list[Column]:
    """Return the column of each row's study; no column if there is only one study."""
    names = tuple(studies)
    return [text_column("Study", names)] if len(set(names)) > 1 else []


def row_columns(comparison: Comparison) -> list[Column]:
    """Return the columns of each row's study, optimizer and configuration."""
    rows = comparison.rows
    return [
        *study_column(row.study for row in rows),
        text_column("Optimizer", (comparison.looks[row.optimizer].label for row in rows)),
        text_column("Config", (row.config for row in rows)),
    ]
