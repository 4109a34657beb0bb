"""A low-rank approximation of a slowly changing operator, from the bases of earlier steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis
from optstudy.curvature.operators import Operator
from optstudy.curvature.ritz import argsort_by
from optstudy.curvature.rows import inner_products

MIN_SQUARED_LENGTH = 1e-4  # of a new direction, outside a basis; float32 inner products are off by 1e-7
# Below 1, so that a correction has a positive component along its residual, outside the basis.
MAX_RATIO = 0.95


@dataclass(frozen=True)
class LowRank:
    r"""A matrix :math:`M = \sum_i \mu_i u_i u_i^\top` that approximates an operator outside its top eigenspace."""

    values: Tensor  # (m,) float64 on the CPU
    vectors: Tensor  # (m, n) orthonormal rows

    def correction(self, value: float, residual: Tensor) -> Tensor:
        r"""Return :math:`\theta (\theta I - M)^{-1} r`, the correction of a Ritz vector up to its length.

        To first order in :math:`r`, an eigenvector differs from a Ritz vector by :math:`(\theta I - A)^{-1} r` on the
        complement of the vector. Here :math:`M` approximates :math:`A` (Morgan and Scott, 1986; Davidson, 1975, uses
        the diagonal of :math:`A`). :math:`M = 0` gives the residual itself. Ratios :math:`\mu_i / \theta` above 0.95
        are clipped to 0.95: such values are close to :math:`\theta`, or outdated.

        Args:
            value: :math:`\theta`.
            residual: :math:`r`, ``(n,)``.
        """
        if not value:
            return residual
        ratios = (self.values / value).clamp(max=MAX_RATIO)
        weights = (ratios / (1 - ratios)).to(residual.device, residual.dtype)
        corrected: Tensor = residual + (weights * (self.vectors @ residual)) @ self.vectors
        return corrected

    def updated(self, basis: Basis, k: int, max_rank: int) -> "LowRank":
        r"""Return the approximation updated by a basis, without the first ``k`` pairs of the basis.

        These are the Ritz pairs of a matrix that equals the operator :math:`A` where its products are known, and
        :math:`M` otherwise. With the later Ritz vectors as rows :math:`V`, and :math:`W` the orthonormal rows
        orthogonal to the basis in the space of the :math:`u_i`, it is
        :math:`\begin{pmatrix} V A V^\top & V A W^\top \\ W A V^\top & W M W^\top \end{pmatrix}`.

        Args:
            basis: A basis of the operator at a later step.
            k: Number of pairs of the basis to leave out.
            max_rank: Largest rank of the result.
        """
        values, coefficients = basis.eigh
        later = argsort_by(values, "magnitude")[k:]
        known = coefficients[:, later].T
        inside = inner_products(self.vectors, basis.rows)
        remaining = inner_products(self.vectors, self.vectors) - inside @ inside.T
        whitening = _whitening(remaining)
        cross = (
            known @ (inner_products(basis.images, self.vectors) - basis.projected @ inside.T) @ whitening.T
        )
        part = whitening @ remaining
        corner = (part * self.values) @ part.T
        upper, lower = torch.cat([values[later].diag(), cross], 1), torch.cat([cross.T, corner], 1)
        values, mix = torch.linalg.eigh(torch.cat([upper, lower]))
        indices = argsort_by(values, "magnitude")[:max_rank]
        fresh, old = mix[:, indices].T.tensor_split([len(later)], dim=1)
        old = old @ whitening
        rows = basis.rows
        fresh_part = (fresh @ known - old @ inside).to(rows) @ rows
        return LowRank(values[indices], torch.addmm(fresh_part, old.to(rows), self.vectors))


def _whitening(gram: Tensor) -> Tensor:
    """Return a matrix that orthonormalises rows with this Gram matrix.

    A QR decomposition of the rows themselves would take a fifth as long as a product.
    """
    sizes, directions = torch.linalg.eigh(gram)
    large = sizes > MIN_SQUARED_LENGTH
    whitening: Tensor = directions[:, large].T / sizes[large].sqrt().unsqueeze(1)
    return whitening


def zero_matrix(operator: Operator) -> LowRank:
    """Return the zero matrix of an operator's size."""
    rows = torch.empty(0, operator.dim, dtype=operator.dtype, device=operator.device)
    return LowRank(torch.empty(0, dtype=torch.float64), rows)
