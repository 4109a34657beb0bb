"""Block Lanczos: growing a basis until its first Ritz pairs have converged."""

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, Ritz, new_directions, norms, random_rows
from optstudy.curvature.operators import Operator
from optstudy.curvature.recall import LowRank

LARGEST_BASIS = 64  # rows held before a restart


def converge(
    operator: Operator,
    basis: Basis,
    block: Tensor,
    *,
    order: str,
    wanted: Tensor,
    limit: int,
    generator: torch.Generator,
    nearby: LowRank | None = None,
) -> tuple[Basis, Ritz, int]:
    """Grow a basis until the residuals of its first Ritz pairs are small, or ``limit`` products are spent.

    Each round adds the residual of the first pair that has not converged. From random rows this is block Lanczos with
    full reorthogonalisation that takes from each block only what the next pair needs, a fifth fewer products than the
    whole block on trained networks. With a matrix nearby it adds the correction that this makes of the residual, as
    generalised Davidson methods do (Morgan and Scott, 1986).
    The rows to begin with are to be as many as the pairs, since one row sees one direction of a multiple eigenvalue.

    Args:
        operator: What the pairs are of.
        basis: Where to begin; may be empty.
        block: The first rows to add, ``(b, n)``; may be none where the basis is large enough.
        order: Which pairs come first.
        wanted: Largest residual of each pair, relative to the largest magnitude, ``(p,)``.
        limit: Products after which to stop.
        generator: Of random rows, where a Krylov space is exhausted.
        nearby: What is known of the operator after its first pairs.

    Returns:
        The basis, its first Ritz pairs, and the products spent.
    """
    pairs = min(len(wanted), operator.dim)
    most = max(LARGEST_BASIS, 4 * pairs)
    found, spent = basis.ritz(order, pairs), 0
    while True:
        if not len(block):
            residuals = found.residual_vectors
            late = norms(residuals) > wanted[: len(residuals)] * basis.magnitude
            if len(residuals) == pairs and not late.any():
                break
            if late.any():
                first = int(late.nonzero()[0])
                block = residuals[first : first + 1]
                if nearby is not None:
                    block = nearby.correction(float(found.values[first]), block[0]).unsqueeze(0)
        if spent >= limit or basis.size >= operator.dim:
            break
        fresh = new_directions(basis.rows, block)
        if not len(fresh):  # an invariant space; what is left of the spectrum lies outside
            fresh = new_directions(basis.rows, random_rows(operator, pairs, generator))
        if basis.size + len(fresh) > most:
            basis = basis.compressed(order, 2 * pairs)
        basis = basis.joined(operator, fresh)
        found, spent = basis.ritz(order, pairs), spent + len(fresh)
        block = block[:0]
    return basis, found, spent
