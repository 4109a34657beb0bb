"""Products in float64: of Ritz vectors that were found in float32, and where these are too inaccurate."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis
from optstudy.curvature.operators import Operator, has_double, in_double, product
from optstudy.curvature.ritz import Ritz
from optstudy.curvature.rows import norm
from optstudy.curvature.symmetry import EPS_RATIO

MANY_ENTRIES = 1_000_000  # from which rows stay in float32 where their products are in float64


@dataclass(frozen=True)
class Refined:
    """Ritz vectors with their products, recomputed at the finest precision."""

    basis: Basis
    noise: float  # 2-norm error of a product of the operator with a unit vector
    products: int


def refine(operator: Operator, finest: Operator, pairs: Ritz, noise: float | None) -> Refined:
    """Recompute the products of Ritz vectors in float64.

    Args:
        operator: The operator with which the pairs were computed.
        finest: The same operator with products in float64, if they are available.
        pairs: The Ritz pairs.
        noise: The error of a product of ``operator``, if it is known.
    """
    basis = Basis(finest, len(pairs.vectors))
    products = basis.append(finest, pairs.vectors.to(finest.device, finest.dtype))
    if noise is not None:
        return Refined(basis, noise, products)
    if finest is operator and operator.in_dtype is not None and operator.dtype == torch.float64:
        try:
            single = operator.in_dtype(torch.float32)
            image = product(single, basis.rows[:1].to(single.dtype))
        except TypeError:  # the model or the loss has constants in float64
            pass
        else:
            return Refined(basis, EPS_RATIO * largest_difference(basis.images[:1], image), products + 1)
    # The images of the vectors as they are in the basis, which were orthonormalised once more.
    difference = largest_difference(basis.images, pairs.images)
    magnitude = float(pairs.values.abs().max())
    return Refined(basis, max(difference, torch.finfo(operator.dtype).eps * magnitude), products)


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Return the largest norm of the differences of rows, without a copy of all of them."""
    return max(norm(one - other.to(one)) for one, other in zip(first, second, strict=True))


def in_double_by_slices(operator: Operator) -> Operator | None:
    """Return the operator in float64, one of many entries over slices of its batch; None if that is not available.

    The graphs of slices are built anew for each product, since that of the whole batch takes as much memory as a basis.
    """
    cut = operator.in_slices if operator.dim >= MANY_ENTRIES and has_double(operator) else None
    slices = None if cut is None else cut()
    return in_double(slices or operator)


def with_products_in_double(operator: Operator) -> Operator:
    """Return the operator with products in float64, if they are available, and otherwise as it is.

    With many entries, rows stay in float32: their rounding is 6e-8 of the norm of a product, and they take half of the
    memory.
    """
    double = in_double_by_slices(operator)
    if double is None or operator.dim < MANY_ENTRIES or operator.dtype == torch.float64:
        return double or operator

    def apply(rows: Tensor) -> Tensor:
        images = torch.empty_like(rows)
        for row, image in zip(rows, images, strict=True):  # one after the other, for the sake of memory
            image.copy_(double.apply(row.double().unsqueeze(0))[0])
        return images

    return replace(double, apply=apply, dtype=operator.dtype, in_dtype=None)
