"""How far a long estimate is: it is computed by an iterator, which the plain function runs to its end."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from torch import Tensor

from optstudy.curvature.reprs import short_repr

T = TypeVar("T")


@dataclass(frozen=True)
class Progress(Generic[T]):
    """How far an estimate is: in products with the operator, evaluations of the loss (landscapes), or layers."""

    done: int
    total: int | None  # at most; None if it depends on convergence
    estimate: T | None  # so far; None at the beginning

    def __repr__(self) -> str:
        return short_repr(self, "done", "total", "estimate")


def last(steps: Iterator[Progress[Any] | T]) -> T:
    """Run an estimate to its end; return its result, the last item."""
    result = None
    for step in steps:
        result = step
    return cast("T", result)


def result_of(steps: Generator[Any, None, T]) -> T:
    """Run a generator to its end; return what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("T", end.value)


def accumulate(steps: Generator[tuple[int, Tensor], None, T], k: int) -> Generator[Progress[Tensor], None, T]:
    """Turn the products of each iteration into progress, whose estimate are the first ``k`` values.

    An error, or an interruption, has a note of what was found so far.
    """
    done, values = 0, None
    try:
        while True:
            try:
                products, values = next(steps)
            except StopIteration as end:
                return cast("T", end.value)
            done += products
            yield Progress(done, None, values[:k])
    except (Exception, KeyboardInterrupt) as error:
        if values is not None:
            found = ", ".join(f"{value:.6g}" for value in values[:k].tolist())
            error.add_note(f"After {done} products the first values were {found}, not yet certified.")
        raise
