"""Completeness check: search for missed eigenvalues, and bound the probability that the search misses them too."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optstudy.curvature.basis import (
    Basis,
    Ritz,
    argsort_by,
    empty_basis,
    negligible,
    norms,
    orthogonal_part,
    random_rows,
    sort_key,
)
from optstudy.curvature.operators import Operator
from optstudy.curvature.progress import result_of

MAX_CHECK_PRODUCTS = 40


@dataclass(frozen=True)
class Check:
    r"""Result of a Lanczos iteration in the complement of the known vectors, from a random start :math:`b`.

    With :math:`P` the projection on their complement, of dimension :math:`n`, :math:`j` products give an orthonormal
    basis :math:`Q` that begins with :math:`b`, the section :math:`T = Q^\top A Q`, and :math:`PAQ = QT + \beta q
    e_j^\top` with a unit vector :math:`q` outside. Let :math:`u` be a unit eigenvector of :math:`PAP` whose eigenvalue
    :math:`\lambda \ge t` lies beyond all those of :math:`T`. Then :math:`(\lambda I - T)\, Q^\top u = \beta (q^\top
    u) e_j`, so that with :math:`w = \beta (tI - T)^{-1} e_j` its component in the start is at most

    .. math:: |b^\top u| \le \eta = \frac{|w_1|}{\sqrt{1 + \|w\|^2}}

    since :math:`\|Q^\top u\|^2 + (q^\top u)^2 \le 1`. For a start that is uniform on the sphere, the
    probability of so small a component is at most :math:`\sqrt{2 n / \pi}\, \eta`, for any spectrum and any way of
    choosing the number of products (after van Dorsselaer, Hochstenbach and van der Vorst, 2001). The same holds at the
    lower end, with :math:`-A`.
    With errors :math:`\tau` of the products, the bound is
    :math:`\eta (1 + \tau \|(tI - T)^{-1}\|) + \tau \|(tI - T)^{-1} e_1\|`.
    """

    products: int
    found: float  # the outermost value found, signed
    probability: float  # upper bound for a missed value beyond the last pair and the tolerance


@dataclass(frozen=True)
class Search:
    """The state of a Lanczos iteration in the complement."""

    basis: Basis
    coupling: float  # beta: norm of the part of the last product outside the basis
    complement_dim: int  # dimension of the complement

    def check(self, order: str, threshold: float, noise: float = 0.0) -> Check:
        """Bound the probability of a missed value beyond ``threshold``, for products with errors of ``noise``."""
        section, ends = self.basis.projected, self.basis.eigh[0]
        rounding = 0.0 if self.basis.size == self.complement_dim else noise
        if rounding and not self.coupling:  # the last product was inside the basis, up to rounding
            rounding += negligible(self.basis.rows.dtype) * float(ends.abs().max())
        signs = {"magnitude": (1, -1), "largest": (1,), "smallest": (-1,)}[order]
        component = max(
            bound_start_component(sign * section, self.coupling, threshold, rounding) for sign in signs
        )
        probability = min(1.0, math.sqrt(2 * self.complement_dim / math.pi) * component)
        return Check(self.basis.size, float(ends[argsort_by(ends, order)[0]]), probability)


def bound_start_component(section: Tensor, coupling: float, threshold: float, rounding: float = 0.0) -> float:
    r"""Bound the component of the start along an eigenvector beyond a threshold; see `Check`.

    Args:
        section: :math:`T`, ``(j, j)`` float64.
        coupling: :math:`\beta`; 0 if the Krylov space of the start is exhausted.
        threshold: :math:`t`.
        rounding: :math:`\tau`.

    Returns:
        The bound, or 1 if an eigenvalue of ``section`` lies beyond the threshold.

    Example:
        >>> section = torch.tensor([[0.5]], dtype=torch.float64)
        >>> bound_start_component(section, coupling=1e-3, threshold=1.0)  # 1e-3 / 0.5
        0.00199999600001...
    """
    values, vectors = torch.linalg.eigh(section)
    gaps = threshold - values
    if not (coupling or rounding):
        return float(gaps[-1] < 0)
    if not gaps[-1] > 0:
        return 1.0
    first, last = (vectors @ (vectors[row] / gaps) for row in (0, -1))
    last = coupling * last
    part = last[0].abs() / (1 + last.square().sum()).sqrt()
    return float(part * (1 + rounding / gaps[-1]) + rounding * first.norm())


def check_complement(operator: Operator, pairs: Ritz, order: str, **options: Any) -> tuple[Check, Ritz]:
    """Search for missed values; arguments are those of `check_steps`."""
    return result_of(check_steps(operator, pairs, order, **options))


def check_steps(
    operator: Operator,
    pairs: Ritz,
    order: str,
    *,
    slack: float,
    noise: float,
    probability: float,
    generator: torch.Generator,
) -> Generator[tuple[int, Tensor], None, tuple[Check, Ritz]]:
    """Search for values beyond the last of ``pairs``, until one is found or the probability of one is small.

    Args:
        operator: The operator, in the precision to use.
        pairs: The known eigenpairs.
        order: The order of the pairs.
        slack: Distance beyond the last of ``pairs`` at which a value counts as missed.
        noise: 2-norm error of a product with a unit vector.
        probability: Probability of a missed value at which the search ends.
        generator: Source of the random start.

    Yields:
        After each product, 1 and the known values.

    Returns:
        The check, and the outermost Ritz pair.
    """
    check, basis = Check(0, 0.0, 0.0), empty_basis(operator)
    threshold = sort_key(float(pairs.values[-1]), order) + slack
    for search in search_complement(operator, pairs.vectors.to(operator.dtype), generator):
        check, basis = search.check(order, threshold, noise), search.basis
        yield 1, pairs.values
        missed = sort_key(check.found, order) > threshold
        if missed or check.probability <= probability or basis.size >= MAX_CHECK_PRODUCTS:
            break
    return check, basis.ritz(order, 1)


def search_complement(operator: Operator, known: Tensor, generator: torch.Generator) -> Iterator[Search]:
    """Run Lanczos on the complement of orthonormal rows ``known`` from a random start; yield after each product.

    The iteration is fully reorthogonalised, and ends when the Krylov space of the start is exhausted.
    """

    def deflated(rows: Tensor) -> Tensor:
        images = operator.apply(rows)
        return images - (images @ known.T) @ known

    complement = Operator(
        deflated, operator.dim, operator.dtype, operator.device, f"deflated {operator.name}"
    )
    complement_dim = operator.dim - len(known)
    basis = empty_basis(operator)
    row, length = orthogonal_part(known, random_rows(operator, 1, generator)[0])
    while basis.size < complement_dim and length:
        basis = basis.appended(complement, row.unsqueeze(0))
        row, share = orthogonal_part(torch.cat([known, basis.rows]), basis.images[-1])
        length = share * float(norms(basis.images[-1:]))
        yield Search(basis, length if basis.size < complement_dim else 0.0, complement_dim)
