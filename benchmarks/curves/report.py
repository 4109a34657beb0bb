"""Output of the parts: tables, and requirements that are met or not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

Images = tuple[Tensor, Tensor]  # inputs and targets, one batch


@dataclass(frozen=True)
class Requirement:
    """A requirement and the measured number."""

    description: str
    measured: str
    met: bool
    accuracy: bool = False  # rather than time; the program fails if it is not met


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows, with the first column left-aligned and the others right-aligned."""
    lines = [[title, *columns], *map(list, rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns) + 1)]
    print()
    for line in lines:
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *others]), flush=True)


def show(requirements: Iterable[Requirement]) -> int:
    """Print the requirements, and return the exit status."""
    failed = 0
    print()
    for one in requirements:
        failed |= one.accuracy and not one.met
        print(f"{'met    ' if one.met else 'NOT MET'}  {one.description}: {one.measured}")
    return int(failed)
