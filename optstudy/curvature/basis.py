"""A growing orthonormal basis with its images under an operator."""

import torch
from torch import Tensor

from optstudy.curvature.operators import Operator, product
from optstudy.curvature.ritz import Ritz, argsort_by, negligible
from optstudy.curvature.rows import (
    combine_,
    combined,
    components,
    finite_norm,
    inner_products,
    norm,
    subtract_,
)


class Basis:
    """Orthonormal rows and their images, each in a block that is allocated once; `append` is in place."""

    def __init__(self, operator: Operator, capacity: int) -> None:
        shape = (min(capacity, operator.dim), operator.dim)
        self._rows = torch.empty(shape, dtype=operator.dtype, device=operator.device)
        self._images = torch.empty_like(self._rows)
        self._projected = torch.zeros(shape[0], shape[0], dtype=torch.float64)
        self.size = 0
        self.asymmetry = 0.0  # largest |h_ij - h_ji| where both were computed

    @property
    def capacity(self) -> int:
        """Number of rows for which there is room."""
        return len(self._rows)

    @property
    def rows(self) -> Tensor:
        """Orthonormal rows, ``(m, n)``."""
        return self._rows[: self.size]

    @property
    def images(self) -> Tensor:
        """Their products, ``(m, n)``."""
        return self._images[: self.size]

    @property
    def projected(self) -> Tensor:
        """The operator in the basis, ``(m, m)`` float64 on the CPU."""
        return self._projected[: self.size, : self.size]

    @property
    def eigh(self) -> tuple[Tensor, Tensor]:
        """Ritz values ``(m,)``, ascending, and the coefficients of the Ritz vectors as columns, ``(m, m)``."""
        values, coefficients = torch.linalg.eigh(self.projected)
        return values, coefficients

    @property
    def magnitude(self) -> float:
        """Largest magnitude of a Ritz value."""
        return float(self.eigh[0].abs().max()) if self.size else 0.0

    def fill(self, pairs: Ritz) -> None:
        """Hold Ritz vectors and their images, in place of what was there."""
        self.size = len(pairs.values)
        self._rows[: self.size] = pairs.vectors
        self._images[: self.size] = pairs.images
        self._projected[: self.size, : self.size] = pairs.values.diag()

    def append(self, operator: Operator, block: Tensor) -> int:
        """Add the part of ``block`` ``(b, n)`` outside the basis, and its images; return the number of products.

        Raises:
            ValueError: If there is no room.
            FloatingPointError: If a product is not finite.
        """
        old, end = self.size, self.size
        if old == self.capacity:
            raise ValueError(f"the basis has no room for more than {old} rows")
        for row in block[: self.capacity - old]:
            self._rows[end] = row
            end += orthonormalise_(self._rows[end], self._rows[:end])
        if end == old:
            return 0
        self._images[old:end] = product(operator, self._rows[old:end])
        for image in self._images[old:end]:
            finite_norm(image, operator.name)
        columns = inner_products(self._rows[:end], self._images[old:end])
        corner = columns[old:]
        self.asymmetry = max(self.asymmetry, float((corner - corner.T).abs().max()))
        self._projected[:end, old:end] = columns
        self._projected[old:end, :old] = columns[:old].T
        self._projected[old:end, old:end] = (corner + corner.T) / 2
        self.size = end
        return end - old

    def ritz(self, order: str, k: int) -> Ritz:
        """Return the first ``k`` Ritz pairs by ``order``; fewer in a smaller basis."""
        values, coefficients = self.eigh
        indices = argsort_by(values, order)[:k]
        mix = coefficients[:, indices].T
        return Ritz(values[indices], combined(mix, self.rows), combined(mix, self.images))

    def compress(self, order: str, k: int) -> None:
        """Keep the first ``k`` Ritz vectors only (a thick restart: Wu and Simon, 2000)."""
        values, coefficients = self.eigh
        indices = argsort_by(values, order)[:k]
        mix = coefficients[:, indices].T.contiguous()
        combine_(self.rows, mix)
        combine_(self.images, mix)
        self.size = len(indices)
        self._projected[: self.size, : self.size] = values[indices].diag()


def orthonormalise_(row: Tensor, rows: Tensor) -> bool:
    """Orthonormalise a row in place against orthonormal rows; whether more than rounding error remains.

    Classical Gram-Schmidt, applied twice, is orthogonal up to rounding (Giraud et al., 2005). Applying it only once
    where most of the length remains would let errors grow from row to row.
    """
    length = norm(row)
    if not 0 < length < float("inf"):
        return False
    row /= length
    share = 1.0
    for _ in range(2):
        subtract_(row, components(rows, row), rows)
        length = norm(row)
        share *= length
        if share <= negligible(row.dtype):
            return False
        row /= length
    return True


def as_basis(pairs: Ritz, operator: Operator, capacity: int) -> Basis:
    """Return the basis of Ritz vectors, with room for more rows."""
    basis = Basis(operator, capacity)
    basis.fill(pairs)
    return basis


def orthonormal(block: Tensor) -> Tensor:
    """Orthonormalise rows in place, and return those that add a new direction."""
    size = 0
    for row in block:
        block[size] = row
        size += orthonormalise_(block[size], block[:size])
    return block[:size]
