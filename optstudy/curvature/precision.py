"""Recompute the products of Ritz vectors in float64, and measure the error of a product."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis
from optstudy.curvature.operators import Operator, in_double, product
from optstudy.curvature.ritz import Ritz
from optstudy.curvature.rows import norm
from optstudy.curvature.symmetry import EPS_RATIO


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
        finest: The same operator in float64, if the device supports it; see `in_double`.
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


def noise_of_few_examples(operator: Operator, pairs: Ritz) -> float | None:
    """Return the error of a product, measured on a few examples; None if they cannot be had apart.

    A product in float64 may cost as much as many in float32, as convolutions do on a CPU. The error, relative to the
    product with the first vector, is that of the mean over a few examples, whose errors cancel less than those of all.
    """
    few = operator.of_few_examples() if operator.of_few_examples is not None else None
    double = None if few is None else in_double(few)
    if few is None or double is None:
        return None
    vector = pairs.vectors[:1].to(few.device)
    image, exact = product(few, vector)[0], product(double, vector.to(double.dtype))[0]
    magnitude, size = abs(float(pairs.values[0])), norm(exact)
    error = norm(exact - image.to(exact.dtype)) * max(1.0, magnitude / size if size else math.inf)
    return max(error, torch.finfo(operator.dtype).eps * magnitude)
