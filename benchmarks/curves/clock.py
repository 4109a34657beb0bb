"""Time spent in the products of an operator."""

import dataclasses
import time

import torch
from torch import Tensor

from optstudy.curvature import Operator


class Clock:
    """Times the products of an operator."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, float]] = []  # vectors, seconds

    def on(self, operator: Operator) -> Operator:
        """Return the operator with its products timed."""

        def apply(rows: Tensor) -> Tensor:
            began = time.perf_counter()
            images = operator.apply(rows)
            self.taken.append((len(rows), time.perf_counter() - began))
            return images

        other = operator.in_dtype

        def in_dtype(dtype: torch.dtype) -> Operator:
            """Return the operator at another precision; its graph, which products share, counts as one of them."""
            assert other is not None
            began = time.perf_counter()
            found = other(dtype)
            self.taken.append((0, time.perf_counter() - began))
            return self.on(found)

        timed = dataclasses.replace(operator, apply=apply, in_dtype=None if other is None else in_dtype)
        cut = getattr(operator, "in_slices", None)  # not known before
        if cut is None:
            return timed

        def in_slices() -> Operator | None:
            slices = cut()
            return None if slices is None else self.on(slices)

        return dataclasses.replace(timed, in_slices=in_slices)

    def last(self, products: int) -> float:
        """Return the seconds of the last products."""
        seconds = 0.0
        for count, taken in reversed(self.taken):
            if products <= 0:
                break
            products, seconds = products - count, seconds + taken
        return seconds

    @property
    def seconds(self) -> float:
        """Seconds of all products."""
        return sum(taken for _, taken in self.taken)

    @property
    def products(self) -> int:
        """Number of products."""
        return sum(count for count, _ in self.taken)
