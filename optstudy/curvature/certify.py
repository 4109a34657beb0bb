"""Find eigenpairs, refine them in float64 and search for missed ones, until all three agree."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, Ritz, as_basis, reach
from optstudy.curvature.completeness import Check, check_complement
from optstudy.curvature.lanczos import converge
from optstudy.curvature.operators import Operator
from optstudy.curvature.precision import EPS_RATIO, has_double, in_double, refine

FIRST_REVIEW = 20  # products in float32 before checking whether it can converge at all; doubled each time
LOOSE = 1e-2  # relative residual of the spare pairs, which are used for the gap only


@dataclass(frozen=True)
class Goal:
    """The eigenpairs to find, and how accurately."""

    k: int
    order: str
    tolerance: float  # largest residual, relative to the largest magnitude
    probability: float | None  # of a missed value, at which a check stops; None for no check
    max_products: int
    spare: int = 1  # further pairs, to a loose tolerance, for the gap

    @property
    def wanted(self) -> Tensor:
        """Largest relative residuals of the pairs and of the spare pairs."""
        loose = max(LOOSE, self.tolerance)
        return torch.tensor([self.tolerance] * self.k + [loose] * self.spare, dtype=torch.float64)


@dataclass(frozen=True)
class EigenResult:
    """Eigenpairs, and how accurate they are."""

    pairs: Ritz  # k, and one more if there is one
    basis: Basis  # the pairs' basis
    operator: Operator  # at the precision that was needed
    products: int
    converged: bool
    noise: float
    check: Check | None
    missed: bool  # whether a check found a missed value, which was then included


def certify(
    operator: Operator, basis: Basis, block: Tensor, goal: Goal, generator: torch.Generator
) -> EigenResult:
    """Find the first pairs of an operator, starting from a basis, which may be empty, and the rows ``block``."""
    spent, check, missed = 0, None, False
    while True:
        left = goal.max_products - spent
        limit = min(left, max(FIRST_REVIEW, spent)) if has_double(operator) else left
        basis, pairs, products = converge(
            operator, basis, block, order=goal.order, wanted=goal.wanted, limit=limit, generator=generator
        )
        finest = in_double(operator) or operator
        refined, noise, extra = refine(operator, finest, pairs, goal.order)
        spent += products + extra
        known, over = refined.first(goal.k), spent >= goal.max_products
        slack = goal.tolerance * basis.magnitude
        converged = bool((known.residuals <= slack).all())
        if not (converged or over) and finest is not operator:
            if products >= limit and noise < slack:
                block = block[:0]
            else:  # float32 is too coarse for the tolerance
                operator = finest
                basis, block = as_basis(refined), known.residual_vectors
            continue
        if goal.probability is None:
            break
        last = float(known.values[-1])
        # Whether products are too inexact for a check to reach the probability.
        coarse = noise * math.sqrt(operator.dim) > goal.probability * abs(last)
        check, outermost = check_complement(
            finest if coarse else operator,
            known,
            goal.order,
            slack=slack,
            noise=EPS_RATIO * noise if coarse and finest is not operator else noise,
            probability=goal.probability,
            generator=generator,
        )
        spent += check.products
        beyond = check.products > 0 and reach(check.found, goal.order) - reach(last, goal.order) > slack
        if over or not beyond:
            converged = converged and not beyond
            break
        block, missed = outermost.vectors.to(operator.dtype), True
    return EigenResult(refined, basis, operator, spent, converged, noise, check, missed)


def check_limits(tolerance: float, probability: float | None) -> None:
    """Raise ValueError unless ``tolerance`` is positive, and ``probability`` is None or between 0 and 1."""
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; give a positive number")
    if probability is not None and not 0 < probability < 1:
        raise ValueError(f"probability is {probability}; give one between 0 and 1, or None for no check")
