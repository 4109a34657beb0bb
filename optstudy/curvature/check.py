"""A search for eigenvalues that an iteration missed, from a random start, and how likely it is to be wrong."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import (
    Basis,
    Ritz,
    empty_basis,
    negligible,
    outside,
    random_rows,
    ranked,
    reach,
)
from optstudy.curvature.operators import Operator

MOST = 40  # products of a check


@dataclass(frozen=True)
class Check:
    r"""What a Lanczos iteration found outside the vectors already known, started in a random direction :math:`b`.

    With :math:`P` the projection on their complement, of dimension :math:`n`, :math:`j` products give an orthonormal
    basis :math:`Q` that begins with :math:`b`, the section :math:`T = Q^\top A Q`, and :math:`PAQ = QT + \beta q
    e_j^\top` with a unit vector :math:`q` outside. Let :math:`u` be a unit eigenvector of :math:`PAP` whose eigenvalue
    :math:`\lambda \ge t` lies beyond all those of :math:`T`. Then :math:`(\lambda I - T)\, Q^\top u = \beta (q^\top
    u) e_j`, so that with :math:`w = \beta (tI - T)^{-1} e_j` its part of the start is at most

    .. math:: |b^\top u| \le \eta = \frac{|w_1|}{\sqrt{1 + \|w\|^2}}

    since :math:`\|Q^\top u\|^2 + (q^\top u)^2 \le 1`. A start that is uniform on the sphere has so small a part with
    probability :math:`\sqrt{2 n / \pi}\, \eta` at most, whatever the spectrum, and however the number of products was
    chosen (after van Dorsselaer, Hochstenbach and van der Vorst, 2001). The same holds below, with :math:`-A`.
    Rounding of size :math:`\tau` adds :math:`\tau \|(tI - T)^{-1} e_1\|` to :math:`\eta`.
    """

    products: int
    found: float  # the value furthest out among those seen, signed
    probability: (
        float  # at most this, that one further out than the last returned and the tolerance was missed
    )


@dataclass(frozen=True)
class Search:
    """A Lanczos iteration after some products."""

    basis: Basis
    coupling: float  # beta: length of what the last product adds to the basis
    outside: int  # dimension of the complement

    def check(self, order: str, threshold: float) -> Check:
        """Say what the search means for values whose `reach` is ``threshold`` or more."""
        section = self.basis.projected
        ends, _ = self.basis.eigh
        found = float(ends[ranked(ends, order)[0]])
        signs = {"magnitude": (1, -1), "largest": (1,), "smallest": (-1,)}[order]
        rounding = 0.0 if self.basis.size == self.outside else negligible(self.basis.rows.dtype)
        part = max(
            start_part(sign * section, self.coupling, threshold, rounding * float(ends.abs().max()))
            for sign in signs
        )
        return Check(self.basis.size, found, min(1.0, math.sqrt(2 * self.outside / math.pi) * part))


def start_part(section: Tensor, coupling: float, threshold: float, rounding: float = 0.0) -> float:
    r"""Return the most that the start can hold of an eigenvector beyond a threshold; see `Check`.

    Args:
        section: :math:`T`, ``(j, j)`` float64.
        coupling: :math:`\beta`.
        threshold: :math:`t`.
        rounding: :math:`\tau`.

    Returns:
        :math:`\eta`, or 1 where an eigenvalue of ``section`` reaches the threshold itself.

    Example:
        >>> start_part(torch.tensor([[0.5]], dtype=torch.float64), coupling=1e-3, threshold=1.0)  # 1e-3 / 0.5
        0.00199999600001...
    """
    shifted = threshold * torch.eye(len(section), dtype=section.dtype) - section
    if not bool((torch.linalg.eigvalsh(shifted) > 0).all()):
        return 1.0
    ends = torch.zeros(len(section), 2, dtype=section.dtype)
    ends[0, 0] = ends[-1, 1] = 1.0
    first, last = torch.linalg.solve(shifted, ends).unbind(1)
    last = coupling * last
    return float(last[0].abs() / (1 + last.square().sum()).sqrt() + rounding * first.norm())


def check_complement(
    operator: Operator,
    pairs: Ritz,
    order: str,
    *,
    slack: float,
    probability: float,
    generator: torch.Generator,
) -> tuple[Check, Ritz]:
    """Look for values further out than the last of ``pairs``, until one is found or it is known that there is none.

    Args:
        operator: What the pairs are of; its precision is used.
        pairs: What is known.
        order: In which they come first.
        slack: How much further out than the last of ``pairs`` another must be to count as missed.
        probability: Of a missed value, at which the search ends.
        generator: Of the random start.

    Returns:
        The check, and the Ritz pair furthest out.
    """
    check, basis = Check(0, 0.0, 0.0), empty_basis(operator)
    threshold = reach(float(pairs.values[-1]), order) + slack
    for search in search_complement(operator, pairs.vectors.to(operator.dtype), generator):
        check, basis = search.check(order, threshold), search.basis
        if reach(check.found, order) > threshold or check.probability <= probability or basis.size >= MOST:
            break
    return check, basis.ritz(order, 1)


def search_complement(operator: Operator, known: Tensor, generator: torch.Generator) -> Iterator[Search]:
    """Yield Lanczos on the complement of orthonormal rows ``known`` from a random start, product by product.

    It is fully reorthogonalised, and ends with the start's Krylov space.
    """

    def deflated(rows: Tensor) -> Tensor:
        images = operator.apply(rows)
        return images - (images @ known.T) @ known

    complement = Operator(
        deflated, operator.dim, operator.dtype, operator.device, f"deflated {operator.name}"
    )
    free = operator.dim - len(known)
    basis = empty_basis(operator)
    row, length = outside(known, random_rows(operator, 1, generator)[0])
    while basis.size < free and length:
        basis = basis.joined(complement, row.unsqueeze(0))
        image = basis.images[-1]
        row, share = outside(torch.cat([known, basis.rows]), image)
        length = share * float(image.norm())
        yield Search(basis, length if basis.size < free else 0.0, free)
