"""What the bases of earlier steps say of an operator that has moved a little since."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, ranked
from optstudy.curvature.operators import Operator

NEW = 1e-4  # squared part of a unit row outside of others, from which on it is a direction of its own
NEAREST = 0.95


@dataclass(frozen=True)
class LowRank:
    r"""A matrix :math:`M = \sum_i \mu_i u_i u_i^\top`, near an operator outside of its first eigenspace."""

    values: Tensor  # (m,) float64 on the CPU
    vectors: Tensor  # (m, n) orthonormal rows

    @property
    def reach(self) -> float:
        """The largest magnitude; minus infinity of nothing."""
        return float(self.values.abs().max()) if len(self.values) else -math.inf

    def correction(self, value: float, residual: Tensor) -> Tensor:
        r"""Return a multiple of :math:`(\theta I - M)^{-1} r`: Davidson's correction of a Ritz vector.

        By first order in :math:`A - M` it is what a Ritz vector with value :math:`\theta` and residual :math:`r`
        lacks; the residual itself is that for :math:`M = 0` (Davidson, 1975).

        Args:
            value: :math:`\theta`.
            residual: :math:`r`, ``(n,)``.
        """
        if not value:
            return residual
        near = (self.values / value).clamp(max=NEAREST)
        weights = (near / (1 - near)).to(residual.device, residual.dtype)
        found: Tensor = residual + (weights * (self.vectors @ residual)) @ self.vectors
        return found

    def updated(self, basis: Basis, k: int, most: int) -> "LowRank":
        """Return what a basis knows after its first ``k`` pairs, and outside of it this matrix; by magnitude.

        Args:
            basis: Of a later operator.
            k: Number of its pairs that are left out.
            most: Rows that are kept at most.
        """
        fresh = basis.ritz("magnitude", basis.size)
        outside = self.vectors - (self.vectors @ fresh.vectors.T) @ fresh.vectors
        rows = torch.cat([fresh.vectors[k:], outside])
        known = _small(fresh.images[k:], rows)
        inside = _small(outside, self.vectors)
        section = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        section[: len(known)] = known
        section[:, : len(known)] = known.T
        section[len(known) :, len(known) :] = (inside * self.values) @ inside.T
        white = _whitening(_small(rows, rows))
        values, coefficients = torch.linalg.eigh(white @ section @ white.T)
        chosen = ranked(values, "magnitude")[:most]
        mix = coefficients[:, chosen].T @ white
        return LowRank(values[chosen], mix.to(rows.device, rows.dtype) @ rows)


def _small(one: Tensor, two: Tensor) -> Tensor:
    """Return the inner products of rows in float64 on the CPU."""
    return (one @ two.T).cpu().double()


def _whitening(gram: Tensor) -> Tensor:
    """Return a matrix that makes orthonormal rows of rows with these inner products.

    A QR decomposition of the rows themselves would take half as long as a product.
    """
    sizes, directions = torch.linalg.eigh(gram)
    kept = sizes > NEW
    whitening: Tensor = directions[:, kept].T / sizes[kept].sqrt().unsqueeze(1)
    return whitening


def nothing(operator: Operator) -> LowRank:
    """Return the matrix of zeros."""
    rows = torch.empty(0, operator.dim, dtype=operator.dtype, device=operator.device)
    return LowRank(torch.empty(0, dtype=torch.float64), rows)
