"""Eigenpairs found, computed afresh in float64, and searched for missed ones, until all three agree."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, Ritz, as_basis, reach
from optstudy.curvature.check import Check, check_complement
from optstudy.curvature.lanczos import converge
from optstudy.curvature.operators import Operator
from optstudy.curvature.precision import SHRINKS, Refined, can_be_finer, refine

TRIAL = 20  # products of a search in float32, after which, and after twice as many, it is asked whether it can converge
LOOSE = 1e-2  # relative residual of the pair after the last, which serves for the gap only


@dataclass(frozen=True)
class Goal:
    """What is looked for."""

    k: int
    order: str
    tolerance: float  # largest residual, relative to the largest magnitude
    probability: float | None  # of a missed value, aimed at; None for no check
    max_products: int
    spare: int = 1  # pairs after the last, roughly, for the gap

    @property
    def wanted(self) -> Tensor:
        """Relative residuals of the pairs and of those after them."""
        loose = max(LOOSE, self.tolerance)
        return torch.tensor([self.tolerance] * self.k + [loose] * self.spare, dtype=torch.float64)


@dataclass(frozen=True)
class Found:
    """Eigenpairs and what is known of them."""

    pairs: Ritz  # k, and one more where there is one
    basis: Basis  # that they were found in
    operator: Operator  # at the precision that was needed
    products: int
    converged: bool
    noise: float
    check: Check | None
    missed: bool  # a check found a value that was taken in


def certify(
    operator: Operator,
    basis: Basis,
    block: Tensor,
    goal: Goal,
    generator: torch.Generator,
) -> Found:
    """Find the first pairs of an operator.

    Args:
        operator: What the pairs are of.
        basis: Where to begin; may be empty.
        block: Rows to begin with, ``(b, n)``.
        goal: What is looked for.
        generator: The only randomness.
    """
    spent, check, missed = 0, None, False
    while True:
        left = goal.max_products - spent
        limit = min(left, max(TRIAL, spent)) if can_be_finer(operator) else left
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
            else:  # float32 does not carry the tolerance
                operator = fresh.operator
                basis, block = as_basis(fresh.pairs), known.residual_vectors
            continue
        if goal.probability is None:
            break
        checked, noise = _quiet(operator, fresh, goal.probability, abs(float(known.values[-1])))
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
    """Raise ValueError unless a tolerance is positive and a probability, where there is one, one to aim at."""
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; give a positive number")
    if probability is not None and not 0 < probability < 1:
        raise ValueError(f"probability is {probability}; give one between 0 and 1, or None for no check")


def _quiet(operator: Operator, fresh: Refined, probability: float, last: float) -> tuple[Operator, float]:
    """Return the operator at a precision whose rounding leaves room for a probability, and the error of a product."""
    if fresh.operator is operator or fresh.noise * math.sqrt(operator.dim) <= probability * last:
        return operator, fresh.noise
    return fresh.operator, SHRINKS * fresh.noise


def _beyond(check: Check, known: Ritz, goal: Goal, magnitude: float) -> bool:
    """Whether a check found a value further out than the last one known, by more than rounding."""
    last = reach(float(known.values[-1]), goal.order)
    return check.products > 0 and reach(check.found, goal.order) - last > goal.tolerance * magnitude
