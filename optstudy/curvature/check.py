"""A search for eigenvalues that an iteration missed, from a random start, and how likely it is to be wrong."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, Ritz, empty_basis, negligible, random_rows, reach
from optstudy.curvature.operators import Operator

FEWEST, MOST = 10, 40  # products of a check


@dataclass(frozen=True)
class Check:
    r"""What a Lanczos iteration found outside the vectors already known, started in a random direction.

    With :math:`P` the projection on their complement, of dimension :math:`n`, the Ritz values of :math:`PAP` after
    :math:`j` products reach from :math:`\xi_{\min}` to :math:`\xi_{\max}`. For a start uniform on the sphere
    Kuczynski and Wozniakowski (1992, theorem 4.2) bound the probability that such an end falls short of the true one
    by more than a fraction :math:`\varepsilon` of the spectrum's width:
    :math:`1.648 \sqrt{n} e^{-\sqrt\varepsilon (2j-1)}`.
    Both ends count: an eigenvalue beyond a threshold :math:`t` was missed with probability at most twice that,
    where :math:`m = t - \max|\xi|` and :math:`\varepsilon = m / (\xi_{\max} - \xi_{\min} + 2m)`.

    An iteration may end before its :math:`j` products, as the start's Krylov space is exhausted: of the next vector
    a part :math:`\tau` at most, the rounding, lies outside. It then holds every eigenvector in the start. One beyond
    :math:`t` is not in it only if its part of the start is below :math:`\sqrt j\, \tau \max|\xi| / m`, which has the
    probability :math:`\sqrt{2 n j / \pi}\, \tau \max|\xi| / m` at most.
    """

    products: int
    found: float  # the value furthest out among those seen, signed
    probability: (
        float  # at most this, that one further out than the last returned and the tolerance was missed
    )


def failure_bound(dim: int, products: int, margin: float, width: float) -> float:
    r"""Return the probability that a value was missed, at most; see `Check`.

    Args:
        dim: :math:`n`.
        products: :math:`j`.
        margin: :math:`m`, from the furthest value seen to the threshold.
        width: :math:`\xi_{\max} - \xi_{\min}`.

    Example:
        >>> failure_bound(61_706, 18, margin=0.125, width=1.0) < 0.02
        True
    """
    if margin <= 0:
        return 1.0
    share = margin / (width + 2 * margin)
    return min(1.0, 2 * 1.648 * math.sqrt(dim) * math.exp(-math.sqrt(share) * (2 * products - 1)))


def products_for(dim: int, probability: float, margin: float, width: float) -> float:
    """Return the products that make `failure_bound` fall to ``probability``; infinite without a margin."""
    if not margin > 0:
        return math.inf
    if math.isinf(margin):  # nothing is expected out there, and whatever was missed is far from it
        return 0.0
    share = margin / (width + 2 * margin)
    return (math.log(2 * 1.648 * math.sqrt(dim) / probability) / math.sqrt(share) + 1) / 2


def check_complement(
    operator: Operator,
    pairs: Ritz,
    order: str,
    *,
    following: float,
    slack: float,
    probability: float,
    generator: torch.Generator,
) -> tuple[Check, Ritz]:
    """Look for values further out than the last of ``pairs``.

    Args:
        operator: What the pairs are of; its precision is used.
        pairs: What is known.
        order: In which they come first.
        following: How far out the next value is expected, which decides how many products are needed.
        slack: How much further out than the last of ``pairs`` another must be to count as missed.
        probability: Of a missed value, aimed at.
        generator: Of the random start.

    Returns:
        The check, and the Ritz pair furthest out.
    """
    last = reach(float(pairs.values[-1]), order)
    width = abs(following) if math.isfinite(following) else 1.0
    needed = products_for(operator.dim, probability, last - following, width)
    products = math.ceil(min(max(needed, FEWEST), MOST))
    known = pairs.vectors.to(operator.dtype)
    basis = search_complement(operator, known, products, generator)
    outside = operator.dim - len(known)
    ended = negligible(operator.dtype) if basis.size < min(products, outside) else math.inf
    return judge(basis, order, last + slack, unspanned=0.0 if basis.size == outside else ended)


def search_complement(operator: Operator, known: Tensor, products: int, generator: torch.Generator) -> Basis:
    """Run Lanczos on the complement of orthonormal rows ``known`` from a random start, fully reorthogonalised."""

    def outside(rows: Tensor) -> Tensor:
        return rows - (rows @ known.T) @ known

    deflated = Operator(
        lambda rows: outside(operator.apply(rows)),
        operator.dim,
        operator.dtype,
        operator.device,
        f"deflated {operator.name}",
    )
    basis = empty_basis(operator)
    block = outside(outside(random_rows(operator, 1, generator)))
    for _ in range(min(products, operator.dim - len(known))):
        larger = basis.extended(deflated, block)
        if larger.size == basis.size:
            break  # the start's Krylov space is exhausted
        basis, block = larger, larger.images[-1:]
    return basis


def judge(basis: Basis, order: str, threshold: float, *, unspanned: float = math.inf) -> tuple[Check, Ritz]:
    r"""Say what a search of the complement means for a threshold.

    Args:
        basis: From `search_complement`.
        order: Of the eigenvalues wanted.
        threshold: What nothing missed may pass, as `reach` measures.
        unspanned: Part of the next vector outside of the basis, :math:`\tau`, where the iteration ended early.

    Returns:
        The check, and the Ritz pair furthest out.
    """
    outermost = basis.ritz(order, 1)
    if not basis.size:  # nothing lies outside
        return Check(0, 0.0, 0.0), outermost
    value = float(outermost.values[0])
    ends = torch.linalg.eigvalsh(basis.projected)
    margin, width = threshold - reach(value, order), float(ends[-1] - ends[0])
    dim, products = basis.rows.shape[1], basis.size
    unseen = _unseen_bound(dim, products, margin, unspanned * float(ends.abs().max()))
    return Check(products, value, min(unseen, failure_bound(dim, products, margin, width))), outermost


def _unseen_bound(dim: int, products: int, margin: float, leak: float) -> float:
    """Return the probability that an exhausted Krylov space lacks an eigenvector, at most; see `Check`."""
    if margin < 0 or math.isnan(leak):
        return 1.0
    if not leak:
        return 0.0
    return min(1.0, math.sqrt(2 * dim * products / math.pi) * leak / margin) if margin else 1.0
