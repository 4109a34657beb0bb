"""Ritz pairs, and the orders in which they are sorted."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from optstudy.curvature.rows import chunks, inner_products, norm


@dataclass(frozen=True)
class Ritz:
    """Approximate eigenpairs: Rayleigh-Ritz in a basis."""

    values: Tensor  # (k,) float64 on the CPU
    vectors: Tensor  # (k, n) unit rows
    images: Tensor  # (k, n) products of the operator with the vectors
    measured: tuple[Tensor, float] | None = None  # residuals and delta, where the images were given up

    def residual_vectors(self, entries: slice = slice(None)) -> Tensor:
        r"""Return rows :math:`A v - \theta v`, ``(k, n)``, or some of their entries."""
        values = self.values.to(self.vectors.device, self.vectors.dtype)
        rows: Tensor = self.images[:, entries] - values.unsqueeze(1) * self.vectors[:, entries]
        return rows

    @cached_property
    def residuals(self) -> Tensor:
        """Norms of the residual vectors, ``(k,)`` float64 on the CPU."""
        if self.measured is not None:
            return self.measured[0]
        pairs = (self.row(index) for index in range(len(self.values)))
        return torch.tensor([norm(pair.residual_vectors()[0]) for pair in pairs], dtype=torch.float64)

    @cached_property
    def delta(self) -> float:
        """2-norm of the residual block: the root of the first eigenvalue of its Gram matrix."""
        if self.measured is not None:
            return self.measured[1]
        largest = float(self.residuals.max()) if len(self.residuals) else 0.0
        if not largest or not math.isfinite(largest):
            return largest
        gram = torch.zeros(len(self.values), len(self.values), dtype=torch.float64)
        for part in chunks(self.vectors.shape[1]):  # without a copy of all of them
            block = self.residual_vectors(part) / largest
            gram += inner_products(block, block)
        return largest * math.sqrt(float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0)))

    def without_images(self) -> "Ritz":
        """Return the pairs without their images, which take as much memory as the vectors."""
        return Ritz(self.values, self.vectors, self.images[:, :0].clone(), (self.residuals, self.delta))

    def row(self, index: int) -> "Ritz":
        """Return one pair."""
        part = slice(index, index + 1)
        return Ritz(self.values[part], self.vectors[part], self.images[part])

    def first(self, k: int) -> "Ritz":
        """Return the first ``k`` pairs."""
        measured = None if self.measured is None else (self.measured[0][:k], self.measured[1])
        return Ritz(self.values[:k], self.vectors[:k], self.images[:k], measured)


def sort_key(value: float, order: str) -> float:
    """Return the sort key of a value in an order; values with larger keys come first."""
    return {"magnitude": abs(value), "largest": value, "smallest": -value}[order]


def argsort_by(values: Tensor, order: str) -> Tensor:
    """Return the indices that sort values by ``order``: ``magnitude``, ``largest`` or ``smallest`` first."""
    keys: dict[str, Tensor] = {"magnitude": values.abs(), "largest": values, "smallest": -values}
    return keys[order].argsort(descending=True, stable=True)


def value_after(values: Tensor, order: str, k: int) -> float:
    """Return the value after the first ``k`` by ``order``; nan if there is none."""
    return float(values[argsort_by(values, order)[k]]) if len(values) > k else math.nan


def negligible(dtype: torch.dtype) -> float:
    """Return the length below which the orthogonal part of a unit row is rounding error."""
    return 100 * float(torch.finfo(dtype).eps)
