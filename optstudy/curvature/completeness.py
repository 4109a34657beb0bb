"""Completeness check: search for missed eigenvalues, and bound the probability that the search misses them too."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from optstudy.curvature.lanczos import Lanczos
from optstudy.curvature.ritz import Ritz, argsort_by, negligible, sort_key

MAX_CHECK_PRODUCTS = 40
BISECTIONS = 40


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
    found: float  # the outermost value found, signed; nan without a product
    probability: float  # upper bound for a missed value beyond the last pair and the tolerance
    above: float  # bound on all eigenvalues but the pairs, with half the probability that the check aimed at
    below: float  # the same for their negatives


@dataclass(frozen=True)
class Section:
    """What a Lanczos iteration in the complement of the known vectors says about the eigenvalues there."""

    values: Tensor  # of T, ascending
    vectors: Tensor  # of T, as columns
    coupling: float  # beta: norm of the part of the last product outside the basis
    dim: int  # of the complement
    noise: float  # 2-norm error of a product with a unit vector

    @classmethod
    def of(cls, lanczos: Lanczos, noise: float) -> "Section":
        """Return that of an iteration."""
        dim = lanczos.operator.dim - lanczos.locked
        values, vectors = torch.linalg.eigh(lanczos.krylov)
        if (
            noise and not lanczos.coupling and len(values) < dim
        ):  # the last product was inside the basis, up to rounding
            noise += negligible(lanczos.operator.dtype) * float(values.abs().max())
        return cls(values, vectors, lanczos.coupling, dim, noise)

    def probability(self, threshold: float, side: int = 1) -> float:
        """Bound the probability that an eigenvalue beyond a threshold was missed, above (1) or below zero (-1)."""
        if len(self.values) == self.dim:  # all of them are known, up to the noise
            return float(float((side * self.values).max()) + self.noise > threshold)
        component = bound_start_component(
            side * self.values, self.vectors, self.coupling, threshold, self.noise
        )
        return min(1.0, math.sqrt(2 * self.dim / math.pi) * component)

    def bound(self, probability: float, side: int) -> float:
        """Return a threshold beyond which an eigenvalue was missed with this probability at most."""
        low = float((side * self.values).max())
        if len(self.values) == self.dim:
            return low + self.noise
        width = max(float(self.values.abs().max()), self.noise, torch.finfo(torch.float64).tiny)
        high = low
        while self.probability(high, side) > probability:
            high, width = low + width, 2 * width
            if not math.isfinite(high):
                return math.inf
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self.probability(middle, side) > probability:
                low = middle
            else:
                high = middle
        return high


def bound_start_component(
    values: Tensor, vectors: Tensor, coupling: float, threshold: float, noise: float = 0.0
) -> float:
    r"""Bound the component of the start along an eigenvector beyond a threshold; see `Check`.

    Args:
        values: Eigenvalues of :math:`T`, ``(j,)`` float64.
        vectors: Its eigenvectors as columns, ``(j, j)``.
        coupling: :math:`\beta`; 0 if the Krylov space of the start is exhausted.
        threshold: :math:`t`.
        noise: :math:`\tau`.

    Returns:
        The bound, or 1 if an eigenvalue of :math:`T` lies beyond the threshold.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> bound_start_component(0.5 * one[0], one, coupling=1e-3, threshold=1.0)  # 1e-3 / 0.5
        0.00199999600001...
    """
    gaps = threshold - values
    least = float(gaps.min())
    if not (coupling or noise):
        return float(least < 0)
    if not least > 0:
        return 1.0
    first, last = (vectors @ (vectors[row] / gaps) for row in (0, -1))
    last = coupling * last
    part = last[0].abs() / (1 + last.square().sum()).sqrt()
    return float(part * (1 + noise / least) + noise * first.norm())


Enough = Callable[[Check, Section], bool]  # whether its bounds decide what is asked, or no bounds can


def check_steps(
    lanczos: Lanczos,
    pairs: Ritz,
    order: str,
    *,
    slack: float,
    noise: float,
    probability: float,
    limit: int,
    enough: Enough | None = None,
) -> Generator[tuple[int, Tensor], None, tuple[Check, bool]]:
    """Search for values beyond the last of ``pairs``, until one is found or the probability of one is small.

    Args:
        lanczos: An iteration from a random start in the complement of the pairs.
        pairs: The known eigenpairs.
        order: The order of the pairs.
        slack: Distance beyond the last of ``pairs`` at which a value counts as missed.
        noise: 2-norm error of a product with a unit vector.
        probability: Probability of a missed value at which the search ends.
        limit: Number of products after which the search ends.
        enough: Whether the bounds reached are enough; otherwise the search goes on to its limit.

    Yields:
        After each product, 1 and the known values.

    Returns:
        The check, and whether a value was missed.
    """
    threshold = sort_key(float(pairs.values[-1]), order) + slack
    sides = {"magnitude": (1, -1), "largest": (1,), "smallest": (-1,)}[order]
    check = Check(0, math.nan, 0.0 if lanczos.exhausted else 1.0, 0.0, 0.0)
    if not lanczos.exhausted:
        check = replace(check, above=math.inf, below=math.inf)
    while check.products < limit and not (lanczos.exhausted or lanczos.full):
        lanczos.advance()
        yield 1, pairs.values
        section = Section.of(lanczos, noise)
        found = float(section.values[argsort_by(section.values, order)[0]])
        reached = [section.probability(threshold, side) for side in sides]
        check = replace(check, products=check.products + 1, found=found, probability=min(1.0, sum(reached)))
        if sort_key(found, order) > threshold:
            return check, True
        last = check.products >= limit or lanczos.exhausted or lanczos.full
        if last or max(reached) <= probability / len(sides):
            above, below = (section.bound(probability / 2, side) for side in (1, -1))
            check = replace(check, above=above, below=below)
            if enough is None or enough(check, section):
                break
    return check, False
