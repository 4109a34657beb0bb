"""Block Lanczos: grow a basis until its first Ritz pairs have converged."""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, Ritz, new_directions, norms, random_rows
from optstudy.curvature.low_rank import LowRank
from optstudy.curvature.operators import Operator
from optstudy.curvature.progress import result_of

LARGEST_BASIS = 64  # rows held before a restart


Converged = tuple[Basis, Ritz, int]  # a basis, its first Ritz pairs, and the products spent


def converge(operator: Operator, basis: Basis, block: Tensor, **options: Any) -> Converged:
    """Grow a basis until its first Ritz pairs have converged; arguments are those of `converge_steps`."""
    return result_of(converge_steps(operator, basis, block, **options))


def converge_steps(
    operator: Operator,
    basis: Basis,
    block: Tensor,
    *,
    order: str,
    tolerances: Tensor,
    limit: int,
    generator: torch.Generator,
    approximation: LowRank | None = None,
) -> Generator[tuple[int, Tensor], None, Converged]:
    """Grow a basis until the residuals of its first Ritz pairs are small, or ``limit`` products are spent.

    Each iteration adds the residual of the first pair that has not converged. Started from random rows, this is block
    Lanczos with full reorthogonalisation, except that it adds one row at a time; on trained networks this takes a fifth
    fewer products than adding full blocks. With ``approximation`` it adds the corrected residual instead, a generalised
    Davidson method (Morgan and Scott, 1986).
    Start with as many rows as pairs, since a single row finds only one direction of a multiple eigenvalue.

    Args:
        operator: The symmetric operator.
        basis: Initial basis; may be empty.
        block: Rows to add first, ``(b, n)``; may be empty if the basis is large enough.
        order: The order of the pairs.
        tolerances: Largest residual of each pair, relative to the largest magnitude, ``(p,)``.
        limit: Number of products after which to stop.
        generator: Source of random rows when a Krylov space is exhausted.
        approximation: Low-rank approximation of the operator without its first pairs.

    Yields:
        After each iteration, its products and the values so far.

    Returns:
        The basis, its first Ritz pairs, and the products spent.
    """
    count = min(len(tolerances), operator.dim)
    largest = max(LARGEST_BASIS, 4 * count)
    pairs, spent = basis.ritz(order, count), 0
    while True:
        if not len(block):
            residuals = pairs.residual_vectors
            unconverged = norms(residuals) > tolerances[: len(residuals)] * basis.magnitude
            if len(residuals) == count and not unconverged.any():
                break
            if unconverged.any():
                first = int(unconverged.nonzero()[0])
                block = residuals[first : first + 1]
                if approximation is not None:
                    block = approximation.correction(float(pairs.values[first]), block[0]).unsqueeze(0)
        if spent >= limit or basis.size >= operator.dim:
            break
        new_rows = new_directions(basis.rows, block)
        if not len(new_rows):  # an invariant space; the remaining eigenvectors are orthogonal to it
            new_rows = new_directions(basis.rows, random_rows(operator, count, generator))
        if basis.size + len(new_rows) > largest:
            basis = basis.compressed(order, 2 * count)
        basis = basis.appended(operator, new_rows)
        pairs, spent = basis.ritz(order, count), spent + len(new_rows)
        block = block[:0]
        yield len(new_rows), pairs.values
    return basis, pairs, spent
