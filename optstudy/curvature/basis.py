"""A growing orthonormal basis, its images under an operator, and the Ritz pairs inside it."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from optstudy.curvature.operators import Operator


@dataclass(frozen=True)
class Ritz:
    """Approximate eigenpairs: Rayleigh-Ritz in a basis."""

    values: Tensor  # (k,) float64 on the CPU
    vectors: Tensor  # (k, n) unit rows
    images: Tensor  # (k, n) products of the operator with the vectors

    @property
    def residual_vectors(self) -> Tensor:
        r"""Rows :math:`A v - \theta v`, ``(k, n)``."""
        values = self.values.to(self.vectors.device, self.vectors.dtype)
        rows: Tensor = self.images - values.unsqueeze(1) * self.vectors
        return rows

    @property
    def residuals(self) -> Tensor:
        """Norms of the residual vectors, ``(k,)`` float64 on the CPU."""
        return norms(self.residual_vectors)

    def first(self, k: int) -> "Ritz":
        """Return the first ``k`` pairs."""
        return Ritz(self.values[:k], self.vectors[:k], self.images[:k])

    def sort_key_after(self, k: int, order: str) -> float:
        """Return the sort key of the pair after the first ``k``; minus infinity if there is none."""
        return sort_key(float(self.values[k]), order) if len(self.values) > k else -math.inf


@dataclass(frozen=True)
class Basis:
    """Orthonormal rows and their images."""

    rows: Tensor  # (m, n)
    images: Tensor  # (m, n)
    projected: Tensor  # (m, m) float64 on the CPU: rows A rows^T

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @cached_property
    def eigh(self) -> tuple[Tensor, Tensor]:
        """Ritz values ``(m,)``, ascending, and the coefficients of the Ritz vectors as columns, ``(m, m)``."""
        values, coefficients = torch.linalg.eigh(self.projected)
        return values, coefficients

    @property
    def magnitude(self) -> float:
        """Largest magnitude of a Ritz value."""
        return float(self.eigh[0].abs().max()) if self.size else 0.0

    def extended(self, operator: Operator, block: Tensor) -> "Basis":
        """Add the component of ``block`` ``(b, n)`` outside the basis, and its images; see `appended`."""
        new_rows = new_directions(self.rows, block)
        return self.appended(operator, new_rows) if len(new_rows) else self

    def appended(self, operator: Operator, new_rows: Tensor) -> "Basis":
        """Add orthonormal rows ``(b, n)``, orthogonal to the basis, and their images, at the cost of b products.

        Raises:
            FloatingPointError: If a product is not finite.
        """
        images = operator.apply(new_rows)
        rows = torch.cat([self.rows, new_rows])
        columns = (rows @ images.T).cpu().double()
        if not bool(columns.isfinite().all()):
            raise FloatingPointError(
                f"a product with the {operator.name} is not finite; has the model diverged, or are"
                " its inputs not finite?"
            )
        old = self.size
        projected = torch.empty(len(rows), len(rows), dtype=torch.float64)
        projected[:old, :old] = self.projected
        projected[:, old:] = columns
        projected[old:, :old] = columns[:old].T
        projected[old:, old:] = (columns[old:] + columns[old:].T) / 2
        return Basis(rows, torch.cat([self.images, images]), projected)

    def ritz(self, order: str, k: int) -> Ritz:
        """Return the first ``k`` Ritz pairs by ``order``; fewer in a smaller basis."""
        values, coefficients = self.eigh
        indices = argsort_by(values, order)[:k]
        mix = coefficients[:, indices].T.to(self.rows.device, self.rows.dtype)
        return Ritz(values[indices], mix @ self.rows, mix @ self.images)

    def compressed(self, order: str, k: int) -> "Basis":
        """Return a basis of the first ``k`` Ritz vectors (a thick restart: Wu and Simon, 2000)."""
        return as_basis(self.ritz(order, k))


def as_basis(pairs: Ritz) -> Basis:
    """Return the basis of Ritz vectors."""
    return Basis(pairs.vectors, pairs.images, torch.diag(pairs.values))


def empty_basis(operator: Operator) -> Basis:
    """Return a basis without rows."""
    no_rows = torch.empty(0, operator.dim, dtype=operator.dtype, device=operator.device)
    return Basis(no_rows, no_rows, torch.empty(0, 0, dtype=torch.float64))


def sort_key(value: float, order: str) -> float:
    """Return the sort key of a value in an order; values with larger keys come first."""
    return {"magnitude": abs(value), "largest": value, "smallest": -value}[order]


def argsort_by(values: Tensor, order: str) -> Tensor:
    """Return the indices that sort values by ``order``: ``magnitude``, ``largest`` or ``smallest`` first."""
    keys: dict[str, Tensor] = {"magnitude": values.abs(), "largest": values, "smallest": -values}
    return keys[order].argsort(descending=True, stable=True)


def norms(rows: Tensor) -> Tensor:
    """Return the norms of rows, ``(m,)`` float64 on the CPU."""
    largest = float(rows.abs().max()) if len(rows) else 0.0
    if not 0 < largest < math.inf:
        return torch.full((len(rows),), largest, dtype=torch.float64)
    scaled: Tensor = (rows / largest).norm(dim=1)  # scaled so that squares neither overflow nor underflow
    return largest * scaled.cpu().double()


def negligible(dtype: torch.dtype) -> float:
    """Return the length below which the orthogonal part of a unit row is rounding error."""
    return 100 * float(torch.finfo(dtype).eps)


def new_directions(rows: Tensor, block: Tensor) -> Tensor:
    """Orthonormalise ``block`` against orthonormal ``rows`` and itself; drop rows that add no new direction."""
    new_rows: list[Tensor] = []
    for row in block:
        direction, share = orthogonal_part(
            torch.cat([rows, torch.stack(new_rows)]) if new_rows else rows, row
        )
        if share:
            new_rows.append(direction)
    return torch.stack(new_rows) if new_rows else block[:0]


def orthogonal_part(rows: Tensor, row: Tensor) -> tuple[Tensor, float]:
    """Return the part of a vector ``(n,)`` orthogonal to orthonormal rows, normalised, and its relative length.

    The length is 0 if that part is rounding error.
    Classical Gram-Schmidt, applied twice, is orthogonal up to rounding (Giraud et al., 2005). Applying it only once
    where most of the length remains would let errors grow from row to row.
    """
    size = float(norms(row.unsqueeze(0)))
    if not 0 < size < math.inf:
        return row, 0.0
    unit, share = row / size, 1.0
    for _ in range(2):
        unit = unit - (rows @ unit) @ rows
        length = float(unit.norm())
        share *= length
        if share <= negligible(row.dtype):
            return unit, 0.0
        unit = unit / length
    return unit, share


def random_rows(operator: Operator, count: int, generator: torch.Generator) -> Tensor:
    """Draw rows ``(count, n)`` in uniformly random directions, identical on every device."""
    rows = torch.randn(count, operator.dim, generator=generator, dtype=torch.float64)
    return rows.to(operator.device, operator.dtype)
