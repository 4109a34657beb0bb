"""Find eigenpairs, refine them in float64 and search for missed ones, until all three agree."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, Ritz, as_basis, reach
from optstudy.curvature.completeness import Check, check_complement
from optstudy.curvature.lanczos import converge
from optstudy.curvature.operators import Operator
from optstudy.curvature.precision import EPS_RATIO, Refined, has_double, refine

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
class Found:
    """Eigenpairs, and how accurate they are."""

    pairs: Ritz  # k, and one more if there is one
    basis: Basis  # in which they were found
    operator: Operator  # at the precision that was needed
    products: int
    converged: bool
    noise: float
    check: Check | None
    missed: bool  # whether a check found a missed value, which was then included


def certify(
    operator: Operator,
    basis: Basis,
    block: Tensor,
    goal: Goal,
    generator: torch.Generator,
) -> Found:
    """Find the first pairs of an operator.

    Args:
        operator: The symmetric operator.
        basis: Initial basis; may be empty.
        block: Rows to add first, ``(b, n)``.
        goal: The pairs to find.
        generator: The only source of randomness.
    """
    spent, check, missed = 0, None, False
    while True:
        left = goal.max_products - spent
        limit = min(left, max(FIRST_REVIEW, spent)) if has_double(operator) else left
        basis, pairs, products = converge(
            operator,
            basis,
            block,
            order=goal.order,
            wanted=goal.wanted,
            limit=limit,
            generator=generator,
        )
        fresh = refine(operator, pairs, goal.order)
        spent += products + fresh.products
        known, over = fresh.pairs.first(goal.k), spent >= goal.max_products
        converged = bool((known.residuals <= goal.tolerance * basis.magnitude).all())
        if not (converged or over) and fresh.operator is not operator:
            if products >= limit and fresh.noise < goal.tolerance * basis.magnitude:
                block = block[:0]
            else:  # float32 is too coarse for the tolerance
                operator = fresh.operator
                basis, block = as_basis(fresh.pairs), known.residual_vectors
            continue
        if goal.probability is None:
            break
        checked, noise = _at_sufficient_precision(
            operator, fresh, goal.probability, abs(float(known.values[-1]))
        )
        check, outermost = check_complement(
            checked,
            known,
            goal.order,
            slack=goal.tolerance * basis.magnitude,
            noise=noise,
            probability=goal.probability,
            generator=generator,
        )
        spent += check.products
        beyond = _beyond(check, known, goal, basis.magnitude)
        if over or not beyond:
            converged = converged and not beyond
            break
        block, missed = outermost.vectors.to(operator.dtype), True
    return Found(fresh.pairs, basis, operator, spent, converged, fresh.noise, check, missed)


def check_limits(tolerance: float, probability: float | None) -> None:
    """Raise ValueError unless ``tolerance`` is positive, and ``probability`` is None or between 0 and 1."""
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; give a positive number")
    if probability is not None and not 0 < probability < 1:
        raise ValueError(f"probability is {probability}; give one between 0 and 1, or None for no check")


def _at_sufficient_precision(
    operator: Operator, fresh: Refined, probability: float, last: float
) -> tuple[Operator, float]:
    """Return the operator at a precision at which a check can reach ``probability``, and the error of a product."""
    if fresh.operator is operator or fresh.noise * math.sqrt(operator.dim) <= probability * last:
        return operator, fresh.noise
    return fresh.operator, EPS_RATIO * fresh.noise


def _beyond(check: Check, known: Ritz, goal: Goal, magnitude: float) -> bool:
    """Whether a check found a value further out than the last known one, by more than the tolerance."""
    last = reach(float(known.values[-1]), goal.order)
    return check.products > 0 and reach(check.found, goal.order) - last > goal.tolerance * magnitude
