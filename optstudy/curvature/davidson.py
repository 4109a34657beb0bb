"""Generalised Davidson iteration: grow a basis with its images until its first Ritz pairs have converged."""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis
from optstudy.curvature.low_rank import LowRank
from optstudy.curvature.operators import Operator
from optstudy.curvature.progress import result_of
from optstudy.curvature.ritz import Ritz
from optstudy.curvature.rows import random_row


def converge(operator: Operator, basis: Basis, block: Tensor, **options: Any) -> tuple[Ritz, int]:
    """Grow a basis until its first Ritz pairs have converged; arguments are those of `converge_steps`."""
    return result_of(converge_steps(operator, basis, block, **options))


def converge_steps(
    operator: Operator,
    basis: Basis,
    block: Tensor,
    *,
    order: str,
    k: int,
    tolerance: float,
    limit: int,
    generator: torch.Generator,
    approximation: LowRank | None = None,
) -> Generator[tuple[int, Tensor], None, tuple[Ritz, int]]:
    """Grow a basis until the residuals of its first ``k`` Ritz pairs are small, or ``limit`` products are spent.

    Each iteration adds the residual of the first pair that has not converged. With ``approximation`` it adds the
    corrected residual instead, a generalised Davidson method (Morgan and Scott, 1986).

    Args:
        operator: The symmetric operator.
        basis: Initial basis, which grows; may be empty.
        block: Rows to add first, ``(b, n)``; may be empty if the basis is large enough.
        order: The order of the pairs.
        k: Number of pairs.
        tolerance: Largest residual of a pair, relative to the largest magnitude.
        limit: Number of products after which to stop.
        generator: Source of random rows where the space is exhausted.
        approximation: Low-rank approximation of the operator without its first pairs.

    Yields:
        After each iteration, its products and the values so far.

    Returns:
        The first Ritz pairs, and the products spent.
    """
    count, spent = min(k, operator.dim), 0
    pairs = basis.ritz(order, count)
    while True:
        if not len(block):
            unconverged = pairs.residuals > tolerance * basis.magnitude
            if len(unconverged) == count and not unconverged.any():
                break
            if unconverged.any():
                first = int(unconverged.nonzero()[0])
                block = pairs.row(first).residual_vectors()
                if approximation is not None:
                    block = approximation.correction(float(pairs.values[first]), block[0]).unsqueeze(0)
        if spent >= limit or basis.size >= operator.dim:
            break
        if basis.size + max(len(block), 1) > basis.capacity:
            basis.compress(order, max(count, (count + basis.capacity) // 2 - 1))
        products = basis.append(operator, block[: limit - spent])
        while not products:  # an invariant space; the remaining eigenvectors are orthogonal to it
            random = torch.empty(1, operator.dim, dtype=operator.dtype, device=operator.device)
            random_row(random[0], generator)
            products = basis.append(operator, random)
        pairs, spent = basis.ritz(order, count), spent + products
        block = block[:0]
        yield products, pairs.values
    return pairs, spent
