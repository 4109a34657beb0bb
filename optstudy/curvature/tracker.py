"""The top eigenspace followed from step to step while a model trains."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from optstudy.curvature.basis import empty_basis, random_rows
from optstudy.curvature.build import objective, unchecked
from optstudy.curvature.certify import Found, Goal, certify, check_limits
from optstudy.curvature.lanczos import converge
from optstudy.curvature.losses import Loss
from optstudy.curvature.objective import Data
from optstudy.curvature.operators import Expansion, Operator, expand, preconditioned
from optstudy.curvature.precision import can_be_finer
from optstudy.curvature.preconditioner import preconditioner, scales
from optstudy.curvature.ratio import block_norm, ratio_interval
from optstudy.curvature.recall import LowRank, nothing

MOST_PRODUCTS = 300  # of a step, after which its pairs are reported as they are
MOST_SINGLE = 50  # of tracking in float32, after which it is asked whether float32 can converge


class Step(Protocol):
    """A moment of training, just before a step."""

    @property
    def step(self) -> int:
        """Counted over the whole run."""

    @property
    def model(self) -> nn.Module:
        """With the weights before the step."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """As it stands before the step; read for its preconditioner alone."""


@dataclass(frozen=True)
class EigenTracker:
    r"""Follows the eigenvalues of largest magnitude of the Hessian on a fixed sample, step by step.

    The search starts from the last step's Ritz vectors and adds corrections of those that have not converged, made of
    their residuals and of what earlier steps showed of the rest of the operator (see `LowRank`).
    What has converged may still not be what is largest: the first and the last of the steps and every
    ``verify_every``-th also look for missed values, as `top_eigenpairs` does, and count as verified; so does a step
    that did not converge in float32. The others are tracked.

    A probe: `observe` takes the state that it returned last, and leaves the model exactly as found. The model is looked
    at in eval mode.

    Args:
        loss: Mean loss of a batch.
        data: The sample, or batches; see `hessian`.
        steps: Which steps to look at.
        k: Number of pairs, at least 2.
        recalled: Ritz pairs after these that are kept from step to step, to correct residuals by.
        tolerance: Largest residual of a pair, relative to the largest value.
        verify_every: Steps between two searches for missed values.
        probability: Of a missed value, aimed at by each search.
        parameters: Names or patterns; see `hessian`.
        preconditioned: Follow :math:`P^{-1/2} H P^{-1/2}` with the optimizer's own scale :math:`P` instead, where it
            has one; see `preconditioner`.
        seed: Of the random starts.
        name: Under which its state is kept.
    """

    loss: Loss
    data: Data
    steps: range
    k: int = 2
    recalled: int = 8
    tolerance: float = 1e-3
    verify_every: int = 25
    probability: float = 0.01
    parameters: str | None = None
    preconditioned: bool = False
    seed: int = 0
    name: str = "eigen"

    def __post_init__(self) -> None:
        if self.k < 2:  # noqa: PLR2004  # a ratio is of two
            raise ValueError(f"k is {self.k}; the ratio takes at least 2 eigenvalues")
        if self.recalled < 0:
            raise ValueError(f"recalled is {self.recalled}; give 0 or more pairs")
        if self.verify_every < 1:
            raise ValueError(f"verify_every is {self.verify_every}; give at least 1 step")
        check_limits(self.tolerance, self.probability)

    def wants(self, moment: Step) -> bool:
        """Whether a step is one of `steps`, and there is something to follow."""
        if moment.step not in self.steps:
            return False
        return not self.preconditioned or scales(moment.optimizer, moment.model, self.parameters)

    def observe(
        self, moment: Step, state: dict[str, Any] | None
    ) -> tuple[dict[str, Any], Mapping[str, float | str]]:
        r"""Find the eigenpairs before a step.

        Args:
            moment: The run before the step.
            state: What the last call returned; None at the first.

        Returns:
            The next state, as tensors and numbers, and what was seen by name: ``lambda_1`` to ``lambda_k``,
            ``residual_1`` to ``residual_k``, ``ratio``, ``ratio_low``, ``ratio_high``, ``verdict`` (a word),
            ``verified`` (1 or 0), ``probability`` (of a missed value; nan where tracked), ``missed`` (1 where a
            verified step found a value that tracking had lost), ``angle`` (radians: the largest principal angle to
            the last eigenspace; nan at the first step), ``gradient_share`` (:math:`\|Vg\|^2 / \|g\|^2`), ``loss``,
            ``products``, and ``double`` (1 where float64 was needed). Of a loss that is not finite, or with a scale
            that is not positive everywhere, the loss alone.
        """
        place = self.steps.index(moment.step)
        last = _Memory(**state) if state else None
        verified = last is None or place % self.verify_every == 0 or place == len(self.steps) - 1
        describe = objective if verified else unchecked
        dtype = torch.float64 if last is not None and last.double else None
        with _eval_mode(moment.model):
            at = describe(moment.model, self.loss, self.data, parameters=self.parameters, dtype=dtype)
            if at.dim < self.k:
                raise ValueError(f"k is {self.k}; the model has {at.dim} parameters that count")
            here = expand(at)
            if not (math.isfinite(here.loss) and bool(here.gradient.isfinite().all())):
                return state or {}, {"loss": here.loss}
            operator = here.hessian
            if self.preconditioned:
                scale = preconditioner(moment.optimizer, moment.model, self.parameters)
                if not bool((scale > 0).all()):  # Adam without eps, of a parameter that never had a gradient
                    return state or {}, {"loss": here.loss}
                operator = preconditioned(operator, scale)
            generator = torch.Generator().manual_seed(1_000_003 * self.seed + moment.step)
            found = self._search(operator, last, generator, verify=verified)
        double = found.operator.dtype == torch.float64 != at.dtype or (last is not None and last.double)
        values = self._values(found, here, last, double=double)
        if place == len(self.steps) - 1:  # nothing will be looked at again
            return {}, values
        return vars(self._memory(found, last, double=double)), values

    def _search(
        self, operator: Operator, last: "_Memory | None", generator: torch.Generator, *, verify: bool
    ) -> Found:
        goal = Goal(self.k, "magnitude", self.tolerance, self.probability, MOST_PRODUCTS)
        if last is None:
            start = random_rows(operator, min(self.k + 1, operator.dim), generator)
            return certify(operator, empty_basis(operator), start, goal, generator)
        tracked = self._tracked(operator, last, generator)
        if not verify and (tracked.converged or not can_be_finer(operator)):
            return tracked
        basis, goal = tracked.basis, replace(goal, spare=0)
        found = certify(operator, basis, basis.rows[:0], goal, generator)
        missed = found.missed or (tracked.converged and self._lost(tracked, found))
        return replace(found, products=tracked.products + found.products, missed=missed)

    def _tracked(self, operator: Operator, last: "_Memory", generator: torch.Generator) -> Found:
        wanted = torch.full((self.k,), self.tolerance, dtype=torch.float64)
        basis, pairs, products = converge(
            operator,
            empty_basis(operator),
            last.vectors.to(operator.device, operator.dtype),
            order="magnitude",
            wanted=wanted,
            limit=MOST_SINGLE if can_be_finer(operator) else MOST_PRODUCTS,
            generator=generator,
            nearby=last.nearby(operator),
        )
        converged = bool((pairs.residuals <= self.tolerance * basis.magnitude).all())
        return Found(pairs, basis, operator, products, converged, last.noise, check=None, missed=False)

    def _lost(self, tracked: Found, found: Found) -> bool:
        """Whether a value is further out than the tracked ones, by more than their residuals allow."""
        further = found.pairs.first(self.k).values.abs() - tracked.pairs.values.abs()
        return bool((further > self.tolerance * found.basis.magnitude).any())

    def _memory(self, found: Found, last: "_Memory | None", *, double: bool) -> "_Memory":
        nearby = last.nearby(found.operator) if last else nothing(found.operator)
        others = nearby.updated(found.basis, self.k, self.recalled)
        return _Memory(
            vectors=found.pairs.first(self.k).vectors.to("cpu", found.basis.rows.dtype),
            other_values=others.values,
            other_vectors=others.vectors.cpu(),
            double=double,
            noise=found.noise,
        )

    def _values(
        self, found: Found, here: Expansion, last: "_Memory | None", *, double: bool
    ) -> dict[str, float | str]:
        pairs = found.pairs.first(self.k)
        values, residuals = pairs.values.tolist(), pairs.residuals.tolist()
        ratio = ratio_interval(values[0], values[1], block_norm(pairs.residual_vectors[:2]), found.noise)
        gradient = here.gradient / here.gradient.abs().max()  # whose square float32 holds
        return {
            **{f"lambda_{i}": value for i, value in enumerate(values, 1)},
            **{f"residual_{i}": residual for i, residual in enumerate(residuals, 1)},
            "ratio": ratio.value,
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
            "verdict": ratio.verdict,
            "verified": float(found.check is not None),
            "probability": found.check.probability if found.check else math.nan,
            "missed": float(found.missed),
            "angle": math.nan if last is None else largest_angle(last.vectors, pairs.vectors),
            "gradient_share": float(
                (pairs.vectors.to(gradient.dtype) @ gradient).square().sum() / gradient.square().sum()
            ),
            "loss": here.loss,
            "products": float(found.products),
            "double": float(double),
        }


@dataclass(frozen=True)
class _Memory:
    """What a tracker keeps from one step to the next."""

    vectors: Tensor  # (k, n) on the CPU
    other_values: Tensor  # (m,) of Ritz pairs after these, some of earlier steps
    other_vectors: Tensor  # (m, n) on the CPU
    double: bool  # float32 did not carry the tolerance at an earlier step
    noise: float  # of a product, when last measured

    def nearby(self, operator: Operator) -> LowRank:
        """What is known of an operator outside of its first eigenspace."""
        return LowRank(self.other_values, self.other_vectors.to(operator.device, operator.dtype))


def largest_angle(first: Tensor, second: Tensor) -> float:
    """Return the largest principal angle between the spans of orthonormal rows, in radians.

    By its sine, which is exact for small angles where the cosine is not (Bjorck and Golub, 1973).
    """
    one = first.to(second.device, second.dtype)
    return math.asin(min(1.0, block_norm(second - (second @ one.T) @ one)))


@contextlib.contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    found = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was in found.items():
            module.training = was
