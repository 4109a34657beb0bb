"""Refine Ritz pairs in float64, and measure the rounding error of a product."""

from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Ritz, empty_basis
from optstudy.curvature.objective import supports
from optstudy.curvature.operators import Operator
from optstudy.curvature.symmetry import check_section

EPS_RATIO = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Refined:
    """Ritz pairs whose products were recomputed."""

    pairs: Ritz  # at the precision of `operator`
    operator: Operator  # in float64 if the device supports it
    products: int
    noise: float  # 2-norm error of a product with a unit vector, at the original precision


def refine(operator: Operator, pairs: Ritz, order: str) -> Refined:
    """Recompute the products of Ritz vectors in float64, and from them the Ritz pairs in their span.

    Raises:
        ValueError: If the products are not those of a symmetric matrix.
    """
    best = in_double(operator) or operator
    vectors = pairs.vectors.to(best.dtype)
    basis = empty_basis(best).extended(best, vectors)
    fresh = (vectors @ basis.rows.T) @ basis.images
    check_section(vectors, fresh, operator.name)
    noise, extra = _noise(operator, fresh, pairs), 0
    if best is operator and operator.in_dtype is not None and operator.dtype == torch.float64:
        single = operator.in_dtype(torch.float32)
        error = single.apply(vectors.to(single.dtype)).to(best.dtype) - fresh
        noise, extra = EPS_RATIO * float(error.norm(dim=1).max()), len(vectors)
    return Refined(basis.ritz(order, basis.size), best, basis.size + extra, noise)


def _noise(operator: Operator, fresh: Tensor, pairs: Ritz) -> float:
    """Return how far the given products are from recomputed ones, but at least one rounding error."""
    difference = float((pairs.images.to(fresh.dtype) - fresh).norm(dim=1).max())
    return max(difference, torch.finfo(operator.dtype).eps * float(pairs.values.abs().max()))


def in_double(operator: Operator) -> Operator | None:
    """Return the operator in float64; None if that is not available."""
    if operator.dtype == torch.float64:
        return operator
    return operator.in_dtype(torch.float64) if operator.in_dtype and has_double(operator) else None


def has_double(operator: Operator) -> bool:
    """Whether an operator that is not in float64 is available in float64."""
    finer = operator.dtype != torch.float64 and operator.in_dtype is not None
    return finer and supports(operator.device, torch.float64)
