"""Find eigenpairs, refine them in float64 and search for missed ones, repeatedly until none is missed."""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, Ritz, as_basis, sort_key
from optstudy.curvature.completeness import Check, check_steps
from optstudy.curvature.lanczos import converge_steps
from optstudy.curvature.operators import Operator, has_double, in_double
from optstudy.curvature.precision import EPS_RATIO, refine
from optstudy.curvature.progress import result_of

FIRST_REFINEMENT = 20  # products in float32 before checking whether it can converge at all; doubled each time
LOOSE_TOLERANCE = 1e-2  # relative residual of the spare pairs, which are used for the gap only


@dataclass(frozen=True)
class Goal:
    """Which eigenpairs to find, how accurately, and with how many products."""

    k: int
    order: str
    tolerance: float  # largest residual, relative to the largest magnitude
    probability: float | None  # of a missed value, at which a check stops; None for no check
    max_products: int
    spare: int = 1  # additional pairs, at a loose tolerance, for the gap

    @property
    def tolerances(self) -> Tensor:
        """Largest relative residuals of the pairs and of the spare pairs."""
        loose = max(LOOSE_TOLERANCE, self.tolerance)
        return torch.tensor([self.tolerance] * self.k + [loose] * self.spare, dtype=torch.float64)


@dataclass(frozen=True)
class EigenResult:
    """Eigenpairs and their accuracy."""

    pairs: Ritz  # k, and one more if there is one
    basis: Basis  # the pairs' basis
    operator: Operator  # at the required precision
    products: int
    converged: bool
    noise: float
    check: Check | None
    missed: bool  # whether a check found a missed value, since included


def certify(
    operator: Operator, basis: Basis, block: Tensor, goal: Goal, generator: torch.Generator
) -> EigenResult:
    """Find the first pairs of an operator, starting from a basis (possibly empty) and the rows ``block``."""
    return result_of(certify_steps(operator, basis, block, goal, generator))


def certify_steps(
    operator: Operator, basis: Basis, block: Tensor, goal: Goal, generator: torch.Generator
) -> Generator[tuple[int, Tensor], None, EigenResult]:
    """Find the first pairs of an operator; yields the products of each iteration, and the values so far."""
    spent, check, missed = 0, None, False
    while True:
        remaining = goal.max_products - spent
        limit = min(remaining, max(FIRST_REFINEMENT, spent)) if has_double(operator) else remaining
        basis, pairs, products = yield from converge_steps(
            operator,
            basis,
            block,
            order=goal.order,
            tolerances=goal.tolerances,
            limit=limit,
            generator=generator,
        )
        finest = in_double(operator) or operator
        refined, noise, extra = refine(operator, finest, pairs, goal.order)
        spent += products + extra
        yield extra, refined.values
        known, exhausted = refined.first(goal.k), spent >= goal.max_products
        slack = goal.tolerance * basis.magnitude
        converged = bool((known.residuals <= slack).all())
        if not (converged or exhausted) and finest is not operator:
            if products >= limit and noise < slack:
                block = block[:0]
            else:  # float32 is too coarse for the tolerance
                operator = finest
                basis, block = as_basis(refined), known.residual_vectors
            continue
        if goal.probability is None:
            break
        last = float(known.values[-1])
        # Whether products are too inaccurate for a check to reach the probability.
        coarse = noise * math.sqrt(operator.dim) > goal.probability * abs(last)
        check, outermost = yield from check_steps(
            finest if coarse else operator,
            known,
            goal.order,
            slack=slack,
            noise=EPS_RATIO * noise if coarse and finest is not operator else noise,
            probability=goal.probability,
            generator=generator,
        )
        spent += check.products
        missing = (
            check.products > 0 and sort_key(check.found, goal.order) - sort_key(last, goal.order) > slack
        )
        if exhausted or not missing:
            converged = converged and not missing
            break
        block, missed = outermost.vectors.to(operator.dtype), True
    return EigenResult(refined, basis, operator, spent, converged, noise, check, missed)


def check_limits(tolerance: float, probability: float | None) -> None:
    """Raise ValueError unless ``tolerance`` is positive, and ``probability`` is None or between 0 and 1."""
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; give a positive number")
    if probability is not None and not 0 < probability < 1:
        raise ValueError(f"probability is {probability}; give one between 0 and 1, or None for no check")
