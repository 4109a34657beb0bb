"""Refine Ritz pairs in float64, and measure the rounding error of a product."""

import torch
from torch import Tensor

from optstudy.curvature.basis import Ritz, empty_basis
from optstudy.curvature.operators import Operator
from optstudy.curvature.symmetry import check_section

EPS_RATIO = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps


def refine(operator: Operator, finest: Operator, pairs: Ritz, order: str) -> tuple[Ritz, float, int]:
    """Recompute the products of Ritz vectors in float64, and the Ritz pairs in their span.

    Args:
        operator: The operator with which the pairs were computed.
        finest: The same operator in float64, if the device supports it; see `in_double`.
        pairs: The Ritz pairs.
        order: The order of the pairs.

    Returns:
        The pairs at the precision of ``finest``, the 2-norm error of a product of ``operator`` with a unit vector, and
        the products spent.

    Raises:
        ValueError: If the products are not those of a symmetric matrix.
    """
    vectors = pairs.vectors.to(finest.dtype)
    basis = empty_basis(finest).extended(finest, vectors)
    recomputed = (vectors @ basis.rows.T) @ basis.images
    check_section(vectors, recomputed, finest)
    refined = basis.ritz(order, basis.size)
    if finest is operator and operator.in_dtype is not None and operator.dtype == torch.float64:
        in_single = operator.in_dtype(torch.float32)
        error = in_single.apply(vectors.to(in_single.dtype)).to(finest.dtype) - recomputed
        return refined, EPS_RATIO * float(error.norm(dim=1).max()), basis.size + len(vectors)
    return refined, _noise(operator, recomputed, pairs), basis.size


def _noise(operator: Operator, recomputed: Tensor, pairs: Ritz) -> float:
    """Return the error of the pairs' products against recomputed ones, at least one rounding error."""
    difference = float((pairs.images.to(recomputed.dtype) - recomputed).norm(dim=1).max())
    return max(difference, torch.finfo(operator.dtype).eps * float(pairs.values.abs().max()))
