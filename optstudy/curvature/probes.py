"""What the trace and the density need of their random vectors: room in memory, and how exact products are."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from optstudy.curvature.arguments import check_whole
from optstudy.curvature.operators import Operator, has_double
from optstudy.curvature.rows import dot, finite_norm
from optstudy.curvature.symmetry import check_symmetry

T = TypeVar("T")

MEMORY_BYTES = 4.2e8  # of the vectors that are kept by default
MIN_MEMORY = 9
COMPARED_COLUMNS = 8  # with which all others of a whole matrix are compared
# Largest asymmetry of products that needs no further question, relative to their norms: that of the float64 Hessians of
# fitted nets may be 1e-7, and that of wrong second derivatives is a thousandth or more.
UNSUSPICIOUS = 1e-5


def room(operator: Operator, memory: int | None) -> int:
    """Return how many vectors may be kept; by default as many as fit into `MEMORY_BYTES`.

    Raises:
        ValueError: If ``memory`` is too small.
    """
    if memory is None:
        return max(MIN_MEMORY, int(MEMORY_BYTES / (operator.dim * operator.dtype.itemsize)))
    check_whole(memory=memory)
    if memory < MIN_MEMORY:
        raise ValueError(f"memory is {memory}; give at least {MIN_MEMORY} vectors")
    return int(memory)


@dataclass
class Symmetry:
    r"""How far products are from symmetric: :math:`x_1^\top A x_i - x_i^\top A x_1` for rows as they are computed."""

    operator: Operator
    first: tuple[Tensor, Tensor] | None = None
    differences: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)  # norms of the products

    def add(self, row: Tensor, image: Tensor) -> None:
        """Compare a row and its product with the first.

        Raises:
            FloatingPointError: If the product is not finite.
        """
        self.sizes.append(finite_norm(image, self.operator.name))
        if self.first is None:
            self.first = row.clone(), image.clone()
        else:
            self.differences.append(dot(self.first[0], image) - dot(row, self.first[1]))

    @property
    def asymmetry(self) -> float:
        """Root mean square of the differences."""
        return root_mean_square(self.differences)

    def check(self, size: float = 0.0) -> None:
        """Ask `check_symmetry`, at the cost of a few more products, if the differences are suspicious.

        Args:
            size: Frobenius norm of the part of the operator that the rows leave out.

        Raises:
            ValueError: If the operator is not symmetric.
        """
        if self.first is not None and self.differences:
            row = self.first[0]
            # Of two unit rows in random directions, products have components of this size in each other's.
            scale = root_mean_square(self.sizes) * math.sqrt(dot(row, row) / len(row))
            scale = math.hypot(scale, size)
            check_asymmetry(self.operator, self.asymmetry, scale)


@dataclass
class Columns:
    """How far all columns of a matrix, as they are computed, are from symmetric."""

    operator: Operator
    sizes: list[float] = field(default_factory=list)
    corners: list[Tensor] = field(default_factory=list)  # the first components of each column
    first: Tensor | None = None  # columns

    def add(self, images: Tensor) -> None:
        """Add the next columns, as rows ``(m, n)``; raises FloatingPointError if one is not finite."""
        self.sizes += [finite_norm(image, self.operator.name) for image in images]
        self.first = images[:COMPARED_COLUMNS].clone() if self.first is None else self.first
        self.corners.append(images[:, : len(self.first)])

    @property
    def asymmetry(self) -> float:
        """Root mean square of the differences between entries and those across the diagonal."""
        assert self.first is not None
        return float((self.first - torch.cat(self.corners).T).double().square().mean().sqrt())

    def check(self) -> None:
        """Ask `check_symmetry`, at the cost of a few more products, if the differences are suspicious."""
        scale = root_mean_square(self.sizes) / math.sqrt(len(self.sizes))
        check_asymmetry(self.operator, self.asymmetry, scale)


def in_two_precisions(operator: Operator, run: Callable[[bool], Iterator[T]]) -> Iterator[T]:
    """Run an estimate with float64 beside float32 where it is available, and otherwise with one precision."""
    finer = has_double(operator)
    try:
        yield from run(finer)
    except TypeError:  # the model or the loss has constants in float32, as the first product finds
        if not finer:
            raise
        yield from run(False)


def unit_rows(operator: Operator, start: int, count: int) -> Tensor:
    """Return rows of the identity."""
    rows = torch.zeros(
        min(count, operator.dim - start), operator.dim, dtype=operator.dtype, device=operator.device
    )
    rows[:, start:].fill_diagonal_(1)
    return rows


def check_asymmetry(operator: Operator, asymmetry: float, scale: float) -> None:
    """Ask `check_symmetry` if the asymmetry of products is suspicious for their size."""
    if asymmetry > UNSUSPICIOUS * scale:
        check_symmetry(operator)


def quantile(count: int) -> float:
    """Return Student's quantile of a two-sided 95 % interval for the mean of so many values."""
    from scipy import stats

    return float(stats.t.ppf(0.975, count - 1))


def asymmetry_of(section: Tensor) -> float:
    """Return the root mean square of the differences of entries ``(m, m)`` across the diagonal; 0 for a single row."""
    pairs = len(section) * (len(section) - 1)
    return float((section - section.T).norm()) / math.sqrt(max(pairs, 1))


def root_mean_square(values: list[float]) -> float:
    """Return the root of the mean square; 0 of none."""
    return math.sqrt(math.fsum(value * value for value in values) / len(values)) if values else 0.0
