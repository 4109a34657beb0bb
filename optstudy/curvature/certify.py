"""Find eigenpairs, refine them in float64 and search for missed ones, repeatedly until none is missed."""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor

from optstudy.curvature.basis import Basis, as_basis
from optstudy.curvature.completeness import MAX_CHECK_PRODUCTS, Check, Section, check_steps
from optstudy.curvature.cost import LEAST_ROWS
from optstudy.curvature.davidson import converge_steps
from optstudy.curvature.lanczos import BESIDES, Lanczos, lanczos_steps
from optstudy.curvature.operators import Operator, has_double, in_double
from optstudy.curvature.precision import MANY_ENTRIES, refine, with_products_in_double
from optstudy.curvature.progress import result_of
from optstudy.curvature.ratio import Ratio, ratio_interval
from optstudy.curvature.ritz import Ritz, value_after
from optstudy.curvature.symmetry import EPS_RATIO, QUESTION, ask_symmetry, is_suspicious

ROUNDING = 4 * torch.finfo(torch.float32).eps  # of products in float64 with rows in float32
FIRST_REFINEMENT = 30  # products in float32 before asking whether it can converge at all
# Of the tolerance, at which a missed value converges beside pairs that have residuals of their own.
SHARE = 0.5


@dataclass(frozen=True)
class Goal:
    """Which eigenpairs to find, how accurately, and at what cost."""

    k: int
    order: str
    tolerance: float  # largest residual, relative to the largest magnitude
    probability: float | None  # of a missed value, at which checks stop; None for no check
    max_products: int
    memory: int  # vectors that are kept, of the precision in which the search starts
    lean: bool = False  # whether a large operator's images and basis are given up before a check


@dataclass(frozen=True)
class EigenResult:
    """Eigenpairs and their accuracy."""

    pairs: Ritz
    basis: Basis | None  # the last one that held more than the pairs
    operator: Operator  # that of the last products
    dtype: torch.dtype  # of its products
    products: int
    converged: bool
    noise: float  # 2-norm error of a product of the operator
    accuracy: float  # 2-norm error of the products of the pairs, which are in float64 where that is available
    scale: float  # largest magnitude of a value that was seen
    next_value: float  # rough estimate of the next value; nan if there is none
    check: Check | None
    missed: bool  # whether a check found a missed value, since included

    @property
    def residuals(self) -> Tensor:
        """Bounds on the norms of the residual vectors, ``(k,)`` float64."""
        return self.pairs.residuals + self.accuracy

    @property
    def ratio(self) -> Ratio:
        """The ratio of the first two values."""
        return ratio_of(self.pairs.values, self.pairs.delta, self.accuracy, self.check, self.next_value)


def ratio_of(
    values: Tensor, delta: float, noise: float, check: Check | None, next_value: float = math.nan
) -> Ratio:
    """Return the ratio of the first two of some values.

    The others were found or bounded by a check. Without a check, the next value found stands for those that were not
    computed, as if none had been missed.
    """
    first, second, *others = values.tolist()
    if check is None and not math.isnan(next_value):
        others.append(next_value)
    above = max([value for value in others if value > 0], default=0.0)
    below = max([-value for value in others if value < 0], default=0.0)
    if check is not None:
        above, below = max(above, check.above), max(below, check.below)
    beyond = None if check is None else max(check.above, check.below)
    return ratio_interval(first, second, delta, noise, beyond=beyond, others=(below, above))


T = TypeVar("T")
Steps = Generator[tuple[int, Tensor], None, T]  # of the products of each iteration, and the values so far


def certify(
    operator: Operator, goal: Goal, generator: torch.Generator, basis: Basis | None = None
) -> EigenResult:
    """Find the first pairs of an operator; arguments are those of `certify_steps`."""
    return result_of(certify_steps(operator, goal, generator, basis))


def certify_steps(
    operator: Operator, goal: Goal, generator: torch.Generator, basis: Basis | None = None
) -> Steps[EigenResult]:
    """Find the first pairs of an operator; yields the products of each iteration, and the values so far.

    Args:
        operator: The operator.
        goal: What to find.
        generator: Source of random starts.
        basis: A basis whose first pairs have converged; by default Lanczos starts from a random row.
    """
    return (yield from _Search(operator, goal, generator, basis).run())


class _Search:
    """A search in progress: what it has spent, and what it has learned of the operator."""

    def __init__(
        self, operator: Operator, goal: Goal, generator: torch.Generator, basis: Basis | None
    ) -> None:
        self.operator = operator  # in the precision in use
        self.double_products = operator.dtype == torch.float64  # whether its products are
        self.itemsize = operator.dtype.itemsize  # of the vectors that the goal's memory counts
        self.goal = replace(goal, k=min(goal.k, operator.dim))
        self.generator = generator
        self.basis = basis  # the last one of the operator in use
        self.spent = 0
        self.noise: float | None = None  # error of a product of the operator; None until it is measured
        self.accuracy = 0.0  # error of the products from which the last pairs are
        self.scale = 0.0  # largest magnitude of a Ritz value
        self.next_value = math.nan
        self.doubtful = self.asked = False  # whether the operator is symmetric
        self.check: Check | None = None
        self.checks, self.risk = 0, 0.0  # their number, and the sum of the probabilities that they aimed at

    @cached_property
    def finest(self) -> Operator:
        """The operator with products in float64, if they are available."""
        return with_products_in_double(self.operator)

    def run(self) -> Steps[EigenResult]:
        """Find pairs until a check finds no other, or the products are spent."""
        found, missed = self._first(), False  # a generator, so that nothing else holds what it returns
        while True:
            pairs, converged = yield from self._refine((yield from found))
            if self.goal.lean and self._is_large:  # no room for these beside the rows of the check
                pairs, self.basis = pairs.without_images(), None
            lanczos = (yield from self._check(pairs)) if self.goal.probability is not None else None
            if lanczos is None:
                break
            missed, converged = True, False
            if self._left < 0:
                break
            # Its rows are not needed beside those of the next check.
            found, lanczos = self._go_on(lanczos), None
        return EigenResult(
            pairs=pairs,
            basis=self.basis,
            operator=self.operator,
            dtype=torch.float64 if self.double_products else self.operator.dtype,
            products=self.spent,
            converged=converged and (self.asked or not self.doubtful),
            noise=self.noise or 0.0,
            accuracy=self.accuracy,
            scale=self.scale,
            next_value=self.next_value,
            check=self.check,
            missed=missed,
        )

    def _first(self) -> Steps[Ritz]:
        """Return the first pairs of the basis, or of a Lanczos iteration."""
        order, k = self.goal.order, self.goal.k
        if self.basis is not None:
            self._learn(self.basis)
            return self.basis.ritz(order, k)
        self._try_double()
        lanczos, limit = Lanczos(self.operator, self.goal.memory, self.generator), self._left
        first = min(limit, max(FIRST_REFINEMENT, k + 1)) if has_double(self.operator) else limit
        products = yield from self._advance(lanczos, self.goal.tolerance, first)
        if products == first < limit and not (yield from self._is_coarse(lanczos)):
            yield from self._advance(lanczos, self.goal.tolerance, self._left)
        self.next_value = value_after(torch.linalg.eigvalsh(lanczos.projected), order, k)
        return lanczos.ritz(order, k)

    def _advance(self, lanczos: Lanczos, tolerance: float, limit: int) -> Steps[int]:
        products = yield from lanczos_steps(lanczos, self.goal.order, self.goal.k, tolerance, limit)
        self.spent += products
        self._learn(lanczos)
        return products

    def _is_coarse(self, lanczos: Lanczos) -> Steps[bool]:
        """Whether products are too inaccurate for the tolerance, by the first vector's in float64."""
        noise = refine(self.operator, self.finest, lanczos.ritz(self.goal.order, 1), None).noise
        self.spent += 1
        yield 1, lanczos.estimates(self.goal.order, self.goal.k)[0]
        return noise > self._slack

    def _try_double(self) -> None:
        """Compute in float64 once, before hours are spent; raises TypeError for a model that cannot."""
        if not has_double(self.operator):
            return
        few = self.operator.of_few_examples() if self.operator.of_few_examples is not None else None
        if few is not None:
            in_double(few)
        elif not self._is_large:
            _ = self.finest

    def _refine(self, pairs: Ritz) -> Steps[tuple[Ritz, bool]]:
        """Recompute pairs in float64; go on where they have not converged there. Returns whether they have."""
        while True:
            refined = refine(self.operator, self.finest, pairs, self.noise)
            self.spent, self.noise = self.spent + refined.products, refined.noise
            self.accuracy = self._finest_noise
            self._learn(refined.basis)
            known = refined.basis.ritz(self.goal.order, self.goal.k)
            yield refined.products, known.values
            converged = self._has_converged(known)
            if converged or self._left <= 0:
                return known, converged
            if self.noise > self._slack:
                self._to_double()
            if self.basis is None:
                capacity = max(self._vectors(self.operator) // 2, 2 * self.goal.k + 4)
                self.basis = as_basis(known, self.operator, capacity)
            del refined, known, pairs  # before more rows are kept
            pairs, products = yield from converge_steps(
                self.operator,
                self.basis,
                self.basis.rows[:0],
                order=self.goal.order,
                k=self.goal.k,
                tolerance=max(
                    self.goal.tolerance - self.accuracy / (self.scale or 1.0), self.goal.tolerance / 2
                ),
                limit=self._left,
                generator=self.generator,
            )
            self.spent += products
            self._learn(self.basis)
            if not has_double(self.operator):
                self.accuracy = self._finest_noise
                return pairs, self._has_converged(pairs)
            if not products:
                self._to_double()

    def _check(self, pairs: Ritz) -> Steps[Lanczos | None]:
        """Search for missed values; return the iteration that found one."""
        assert self.goal.probability is not None
        assert self.noise is not None
        self.checks += 1
        allowed = self.goal.probability * 6 / (math.pi * self.checks) ** 2
        smallest = max(abs(float(pairs.values[-1])), self._slack)
        # Whether products are too inaccurate for a check to reach the probability.
        coarse = self.noise * math.sqrt(self.operator.dim) > allowed * smallest
        operator, noise = (self.finest, self._finest_noise) if coarse else (self.operator, self.noise)
        memory = min(self._vectors(operator), len(pairs.values) + MAX_CHECK_PRODUCTS + BESIDES)
        lanczos = Lanczos(operator, memory, self.generator, pairs)
        check, missed = yield from check_steps(
            lanczos,
            pairs,
            self.goal.order,
            slack=self._slack,
            noise=noise,
            probability=allowed,
            limit=min(MAX_CHECK_PRODUCTS, self.goal.max_products - self.spent),
            enough=partial(self._is_enough, pairs),
        )
        if noise > self._slack:  # then the threshold itself is uncertain by more than the tolerance
            check = replace(check, probability=1.0)
        self.spent += check.products
        products = check.products + (self.check.products if self.check else 0)
        if self.check and not check.products:
            check = replace(check, found=self.check.found)
        self.check = replace(check, products=products, probability=min(1.0, self.risk + check.probability))
        self.risk += allowed
        if check.products:
            self._learn(lanczos)
        return lanczos if missed else None

    def _is_enough(self, pairs: Ritz, check: Check, section: Section) -> bool:
        """Whether a check decides the sign of the ratio, or no check can."""
        if self.goal.order != "magnitude" or len(pairs.values) < 2:  # noqa: PLR2004  # a ratio needs two
            return True
        seen = replace(check, above=float(section.values[-1]), below=-float(section.values[0]))
        decided, undecidable = (
            ratio_of(pairs.values, pairs.delta, self.accuracy, bounds).sign for bounds in (check, seen)
        )
        return decided != "open" or undecidable == "open"

    def _go_on(self, lanczos: Lanczos) -> Steps[Ritz]:
        """Go on from the check that found a missed value; return the first pairs of all."""
        if lanczos.operator is not self.operator:
            self._to_double()
        self.basis = None
        yield from self._advance(lanczos, SHARE * self.goal.tolerance, self._left)
        return lanczos.ritz(self.goal.order, self.goal.k)

    @property
    def _is_large(self) -> bool:
        return self.operator.dim >= MANY_ENTRIES

    @property
    def _slack(self) -> float:
        return self.goal.tolerance * self.scale

    @property
    def _left(self) -> int:
        """Number of products that are left, without those to recompute the pairs."""
        measured = self.noise is None and not has_double(self.operator) and self.operator.in_dtype is not None
        return self.goal.max_products - self.spent - self.goal.k - measured

    def _vectors(self, operator: Operator) -> int:
        """Return how many vectors of an operator take as much memory as the goal allows."""
        share = self.goal.memory * self.itemsize // operator.dtype.itemsize
        return max(share, self.goal.k + LEAST_ROWS)

    @property
    def _finest_noise(self) -> float:
        """Error of a product at the finest precision."""
        noise = (self.noise or 0.0) * (EPS_RATIO if has_double(self.operator) else 1.0)
        mixed = self.operator.dtype == torch.float32 and (self.double_products or has_double(self.operator))
        return max(noise, ROUNDING * self.scale) if mixed and self._is_large else noise

    def _has_converged(self, pairs: Ritz) -> bool:
        complete = len(pairs.values) == self.goal.k
        return complete and bool((pairs.residuals + self.accuracy <= self._slack).all())

    def _to_double(self) -> None:
        if has_double(self.operator):
            self.noise = self.accuracy = self._finest_noise
            self.operator, self.basis, self.double_products = self.finest, None, True

    def _learn(self, part: Basis | Lanczos) -> None:
        """Note the largest value; ask whether the operator is symmetric where a section suggests that it is not."""
        self.scale = max(self.scale, part.magnitude)
        self.doubtful = self.doubtful or is_suspicious(part.rows.dtype, part.asymmetry, self.scale)
        if self.doubtful and not self.asked and self._left >= QUESTION:
            self.asked = True
            self.spent += ask_symmetry(self.operator)


def check_limits(tolerance: float, probability: float | None) -> None:
    """Raise ValueError unless ``tolerance`` is positive, and ``probability`` is None or between 0 and 1."""
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; give a positive number")
    if probability is not None and not 0 < probability < 1:
        raise ValueError(f"probability is {probability}; give one between 0 and 1, or None for no check")
