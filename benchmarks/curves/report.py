"""What the parts print: tables, and bars that are met or not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

Images = tuple[Tensor, Tensor]  # inputs and targets, one batch


@dataclass(frozen=True)
class Bar:
    """Something wanted, with the number that was measured."""

    wanted: str
    measured: str
    met: bool
    promise: bool = False  # of correctness, not of a clock: the program fails where it is not met


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows, the first column to the left and the others to the right."""
    lines = [[title, *columns], *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns) + 1)]
    print()
    for line in lines:
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *others]), flush=True)


def show(bars: Iterable[Bar]) -> int:
    """Print the bars, and return the exit status."""
    broken = 0
    print()
    for bar in bars:
        broken |= bar.promise and not bar.met
        print(f"{'met    ' if bar.met else 'NOT MET'}  {bar.wanted}: {bar.measured}")
    return int(broken)
