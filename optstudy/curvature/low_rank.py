"""A low-rank approximation of a slowly changing operator, from the bases of earlier steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, ranked
from optstudy.curvature.operators import Operator

NEW = 1e-4  # least squared length outside a basis of a new direction; float32 inner products are off by 1e-7
# Below 1, so that a correction has a positive component along its residual, outside the basis.
NEAREST = 0.95


@dataclass(frozen=True)
class LowRank:
    r"""A matrix :math:`M = \sum_i \mu_i u_i u_i^\top` that approximates an operator outside its top eigenspace."""

    values: Tensor  # (m,) float64 on the CPU
    vectors: Tensor  # (m, n) orthonormal rows

    def correction(self, value: float, residual: Tensor) -> Tensor:
        r"""Return :math:`\theta (\theta I - M)^{-1} r`, the correction of a Ritz vector up to its length.

        By first order in :math:`r` an eigenvector differs from a Ritz vector by :math:`(\theta I - A)^{-1} r` on the
        complement of the vector, and :math:`M` stands for :math:`A` (Morgan and Scott, 1986; Davidson, 1975, with the
        diagonal of :math:`A`). :math:`M = 0` gives the residual itself. A :math:`\mu_i / \theta` above 0.95, which can
        only be near or out of date, counts as 0.95.

        Args:
            value: :math:`\theta`.
            residual: :math:`r`, ``(n,)``.
        """
        if not value:
            return residual
        near = (self.values / value).clamp(max=NEAREST)
        weights = (near / (1 - near)).to(residual.device, residual.dtype)
        corrected: Tensor = residual + (weights * (self.vectors @ residual)) @ self.vectors
        return corrected

    def updated(self, basis: Basis, k: int, most: int) -> "LowRank":
        r"""Return the approximation updated by a basis, without the first ``k`` pairs of the basis.

        These are the Ritz pairs of a matrix that equals the operator :math:`A` where its products are known, and
        :math:`M` elsewhere. With the later Ritz vectors as rows :math:`V`, and rows :math:`W` orthonormal and outside
        of the basis in the space of the :math:`u_i`, it is
        :math:`\begin{pmatrix} V A V^\top & V A W^\top \\ W A V^\top & W M W^\top \end{pmatrix}`.

        Args:
            basis: A basis of the operator at a later step.
            k: Number of its pairs to leave out.
            most: Largest rank of the result.
        """
        values, coefficients = basis.eigh
        later = ranked(values, "magnitude")[k:]
        known = coefficients[:, later].T
        inside = _inner_products(self.vectors, basis.rows)
        remaining = _inner_products(self.vectors, self.vectors) - inside @ inside.T
        white = _whitening(remaining)
        cross = known @ (_inner_products(basis.images, self.vectors) - basis.projected @ inside.T) @ white.T
        part = white @ remaining
        corner = (part * self.values) @ part.T
        upper, lower = torch.cat([values[later].diag(), cross], 1), torch.cat([cross.T, corner], 1)
        values, mix = torch.linalg.eigh(torch.cat([upper, lower]))
        chosen = ranked(values, "magnitude")[:most]
        fresh, old = mix[:, chosen].T.tensor_split([len(later)], dim=1)
        old = old @ white
        rows = basis.rows
        fresh_part = (fresh @ known - old @ inside).to(rows) @ rows
        return LowRank(values[chosen], torch.addmm(fresh_part, old.to(rows), self.vectors))


def _inner_products(one: Tensor, two: Tensor) -> Tensor:
    """Return the inner products of rows in float64 on the CPU."""
    return (one @ two.T).cpu().double()


def _whitening(gram: Tensor) -> Tensor:
    """Return a matrix that orthonormalises rows with this Gram matrix.

    A QR decomposition of the rows themselves would take a fifth as long as a product.
    """
    sizes, directions = torch.linalg.eigh(gram)
    large = sizes > NEW
    whitening: Tensor = directions[:, large].T / sizes[large].sqrt().unsqueeze(1)
    return whitening


def zero_matrix(operator: Operator) -> LowRank:
    """Return the zero matrix of an operator's size."""
    rows = torch.empty(0, operator.dim, dtype=operator.dtype, device=operator.device)
    return LowRank(torch.empty(0, dtype=torch.float64), rows)
