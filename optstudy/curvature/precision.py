"""What float32 carries: Ritz pairs computed afresh in float64, and the error of a product."""

from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Ritz, empty_basis
from optstudy.curvature.objective import has
from optstudy.curvature.operators import Operator
from optstudy.curvature.symmetry import check_section

# By how much errors shrink from float32 to float64.
SHRINKS = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Refined:
    """Ritz pairs whose products were computed afresh."""

    pairs: Ritz  # at the operator's precision
    operator: Operator  # in float64 where the device has it
    products: int
    noise: float  # 2-norm error of a product with a unit vector, at the precision that the pairs came from


def refine(operator: Operator, pairs: Ritz, order: str) -> Refined:
    """Compute the products of Ritz vectors again in float64, and the pairs inside their span from these.

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
        noise, extra = SHRINKS * float(error.norm(dim=1).max()), len(vectors)
    return Refined(basis.ritz(order, basis.size), best, basis.size + extra, noise)


def _noise(operator: Operator, fresh: Tensor, pairs: Ritz) -> float:
    """Return how far the products at hand are from fresh ones, at least the last digit."""
    difference = float((pairs.images.to(fresh.dtype) - fresh).norm(dim=1).max())
    return max(difference, torch.finfo(operator.dtype).eps * float(pairs.values.abs().max()))


def in_double(operator: Operator) -> Operator | None:
    """Return the operator in float64; None where it cannot be had."""
    if operator.dtype == torch.float64:
        return operator
    return operator.in_dtype(torch.float64) if operator.in_dtype and can_be_finer(operator) else None


def can_be_finer(operator: Operator) -> bool:
    """Whether an operator is not in float64, but can be had in it."""
    finer = operator.dtype != torch.float64 and operator.in_dtype is not None
    return finer and has(operator.device, torch.float64)
