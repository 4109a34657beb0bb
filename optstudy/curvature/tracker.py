"""Track the top eigenspace of the Hessian from step to step while a model trains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from optstudy.curvature.arguments import check_loss, check_patterns, check_whole
from optstudy.curvature.basis import Basis, as_basis
from optstudy.curvature.batches import Data
from optstudy.curvature.build import objective, unchecked_objective
from optstudy.curvature.certify import EigenResult, Goal, certify, check_limits
from optstudy.curvature.containers import describe
from optstudy.curvature.cost import kept_vectors
from optstudy.curvature.davidson import converge
from optstudy.curvature.losses import Denominator, Loss
from optstudy.curvature.low_rank import LowRank, zero_matrix
from optstudy.curvature.objective import eval_mode, select_parameters
from optstudy.curvature.operators import Expansion, Operator, expand, has_double, preconditioned
from optstudy.curvature.preconditioner import has_preconditioner, preconditioner
from optstudy.curvature.ritz import Ritz, value_after
from optstudy.curvature.rows import block_norm, components, norm, subtract_
from optstudy.curvature.symmetry import ask_symmetry, is_suspicious
from optstudy.curvature.twice import unwrapped

MAX_PRODUCTS = 300  # per step; beyond it, pairs that have not converged are reported as they are
# Ratio of the curvature along a move to the last value, above which another may have overtaken it.
EXCESS = 1.05
# Radians between the pairs and the last step's, extra pairs included, above which others may be lost.
MAX_ANGLE = 0.3
MAX_ROWS = 64  # of the basis of a tracked step
MAX_FLOAT32_PRODUCTS = 50  # per tracked step, before checking whether float32 can converge at all


class Step(Protocol):
    """The state of training just before a step."""

    @property
    def step(self) -> int:
        """Index of the step in the whole run."""

    @property
    def model(self) -> nn.Module:
        """The model, with its weights before the step."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer before the step; only its preconditioner is read."""


@dataclass(frozen=True)
class EigenTracker:
    r"""Tracks the eigenvalues of largest magnitude of the Hessian on a fixed sample, step by step.

    The search starts from the Ritz vectors of the last step. Pairs that have not converged are corrected with their
    residuals and an approximation of the rest of the operator from earlier steps (see `LowRank`).
    Converged pairs are not necessarily the largest. Therefore the first step, the last step and every
    ``verify_every``-th step also search for missed values, like `top_eigenpairs`, and count as verified. So does a step
    that did not converge in float32, and one at which a value may have been lost: the gradients of the sample, at this
    step and the last, show more curvature outside the tracked vectors than the last value allows; the vectors turned
    out of the space of all vectors of the last step, extra pairs included; or the last step found a missed value. The
    other steps are tracked. When the selected parameters change (a layer is frozen, unfrozen, or replaced by one of
    another shape), the search starts anew with a verified step.

    A tracker is a probe: `observe` takes the state that the previous call returned. The model is evaluated in eval
    mode, and not modified.

    Args:
        loss: Mean loss of a batch.
        data: The sample, or batches; see `hessian`.
        steps: The steps to observe.
        k: Number of pairs, at least 2.
        extra_pairs: Number of additional Ritz pairs that are carried over between steps to correct residuals.
        tolerance: Largest residual of a pair, relative to the largest value.
        verify_every: Number of steps between two searches for missed values.
        probability: Probability of a missed value at which each search stops.
        parameters: Names or patterns; see `hessian`.
        preconditioned: Track :math:`P^{-1/2} H P^{-1/2}` instead, where the optimizer has a preconditioner :math:`P`;
            see `preconditioner`.
        seed: Seed of the random starts.
        name: Key of the tracker's state among the probes of a run.
        denominator: Divisor of the mean loss of a batch; see `objective`.
    """

    loss: Loss
    data: Data = field(repr=False)
    steps: range
    k: int = 2
    extra_pairs: int = 8
    tolerance: float = 1e-3
    verify_every: int = 25
    probability: float = 0.01
    parameters: str | None = None
    preconditioned: bool = False
    seed: int = 0
    name: str = "eigen"
    denominator: Denominator | None = None

    def __post_init__(self) -> None:
        check_whole(k=self.k, extra_pairs=self.extra_pairs, verify_every=self.verify_every, seed=self.seed)
        if self.k < 2:  # noqa: PLR2004  # a ratio needs two
            raise ValueError(f"k is {self.k}; the ratio needs at least 2 eigenvalues")
        if self.extra_pairs < 0:
            raise ValueError(f"extra_pairs is {self.extra_pairs}; give 0 or more pairs")
        if self.verify_every < 1:
            raise ValueError(f"verify_every is {self.verify_every}; give at least 1 step")
        check_loss(self.loss)
        check_patterns(self.parameters)
        if not isinstance(self.steps, range):
            raise TypeError(f"steps is {describe(self.steps)}; give a range, such as range(1000)")
        check_limits(self.tolerance, self.probability)

    def is_due(self, context: Step) -> bool:
        """Whether a step is one of `steps`, and its operator is available."""
        if context.step not in self.steps:
            return False
        return not self.preconditioned or has_preconditioner(
            context.optimizer, context.model, self.parameters
        )

    def observe(
        self, context: Step, state: dict[str, Any] | None
    ) -> tuple[dict[str, Any], Mapping[str, float | str]]:
        r"""Find the eigenpairs before a step.

        Args:
            context: The state of training before the step.
            state: The state that the previous call returned; None at the first.

        Returns:
            The next state (tensors and plain numbers), and the values of this step by name.

            The values are ``lambda_1`` to ``lambda_k``, ``residual_1`` to ``residual_k``, ``ratio``, ``ratio_low``,
            ``ratio_high``, ``verdict`` and ``sign`` (strings), ``verified`` (1 or 0), ``probability`` (of a missed
            value; nan for a tracked step), ``missed`` (1 if a verified step found a value missed by tracking),
            ``angle`` (largest principal angle to the last eigenspace, in radians; nan at the first step),
            ``gradient_share`` (:math:`\|Vg\|^2 / \|g\|^2`), ``loss``, ``products``, and ``double`` (1 if float64 was
            needed). If the loss is not finite, or the preconditioner is not positive everywhere, ``loss`` is the only
            value.
        """
        index = self.steps.index(context.step)
        model = unwrapped(context.model) if state else context.model  # a wrapper is mentioned once
        selected = _selection(unwrapped(model), self.parameters)
        previous = _TrackerState(**state) if state else None
        if previous is not None and previous.selected not in ("", selected):
            previous = None  # its vectors are of other parameters
        verified = previous is None or index % self.verify_every == 0 or index == len(self.steps) - 1
        build = objective if verified else unchecked_objective
        dtype = torch.float64 if previous is not None and previous.double else None
        with eval_mode(model):
            function = build(
                model,
                self.loss,
                self.data,
                parameters=self.parameters,
                dtype=dtype,
                denominator=self.denominator,
            )
            if function.dim < self.k:
                raise ValueError(f"k is {self.k}; the model has {function.dim} selected parameters")
            expansion = expand(function)
            if not (math.isfinite(expansion.loss) and bool(expansion.gradient.isfinite().all())):
                return state or {}, {"loss": expansion.loss}
            operator, move = expansion.hessian, _move(function.weights, expansion.gradient, previous)
            if self.preconditioned:
                scale = preconditioner(context.optimizer, context.model, self.parameters)
                if not bool((scale > 0).all()):  # Adam without eps, for a parameter without a gradient so far
                    return state or {}, {"loss": expansion.loss}
                operator = preconditioned(operator, scale)
                move = None if move is None else move.preconditioned(scale)
            generator = torch.Generator().manual_seed(1_000_003 * self.seed + context.step)
            result = self._search(operator, previous, generator, None if verified else move)
        double = result.dtype == torch.float64 != function.dtype or (previous is not None and previous.double)
        values = self._values(result, expansion, previous, double=double)
        if index == len(self.steps) - 1:  # no step left to observe
            return {}, values
        following = self._next_state(result, previous, selected, double=double)
        at = {"weights": function.weights.cpu(), "gradient": expansion.gradient.cpu()}
        return vars(following) | at, values

    def _search(
        self,
        operator: Operator,
        previous: "_TrackerState | None",
        generator: torch.Generator,
        move: "_Move | None",
    ) -> EigenResult:
        """Find the eigenpairs; without a move since the last step, also search for missed ones."""
        memory = kept_vectors(operator, self.k, None)
        goal = Goal(self.k, "magnitude", self.tolerance, self.probability, MAX_PRODUCTS, memory)
        if previous is None:
            return certify(operator, goal, generator)
        tracked = self._track(operator, previous, generator)
        settled = tracked.converged or not has_double(operator)
        if settled and move is not None and not self._may_have_lost(tracked.pairs, previous, move):
            return tracked
        goal = replace(goal, max_products=max(MAX_PRODUCTS - tracked.products, 2 * self.k + 1))
        result = certify(operator, goal, generator, tracked.basis)
        missed = result.missed or (tracked.converged and self._lost_value(tracked, result))
        return replace(result, products=tracked.products + result.products, missed=missed)

    def _track(
        self, operator: Operator, previous: "_TrackerState", generator: torch.Generator
    ) -> EigenResult:
        basis = Basis(operator, max(MAX_ROWS, 2 * self.k + 4))
        pairs, products = converge(
            operator,
            basis,
            previous.vectors.to(operator.device, operator.dtype),
            order="magnitude",
            k=self.k,
            tolerance=self.tolerance,
            limit=MAX_FLOAT32_PRODUCTS if has_double(operator) else MAX_PRODUCTS,
            generator=generator,
            approximation=previous.approximation(operator),
        )
        if is_suspicious(operator.dtype, basis.asymmetry, basis.magnitude):
            products += ask_symmetry(operator)
        noise = previous.noise * float(pairs.values.abs().max())
        return EigenResult(
            pairs=pairs,
            basis=basis,
            operator=operator,
            dtype=operator.dtype,
            products=products,
            converged=bool((pairs.residuals <= self.tolerance * basis.magnitude).all()),
            noise=noise,
            accuracy=noise,
            scale=basis.magnitude,
            next_value=value_after(basis.eigh[0], "magnitude", self.k),
            check=None,
            missed=False,
        )

    def _may_have_lost(self, pairs: Ritz, previous: "_TrackerState", move: "_Move") -> bool:
        """Whether a value may have overtaken the pairs unseen, by all that is known without a product."""
        return previous.missed or move.exceeds(pairs) or previous.angle(pairs) > MAX_ANGLE

    def _lost_value(self, tracked: EigenResult, result: EigenResult) -> bool:
        """Whether a value exceeds the tracked ones by more than their residuals allow."""
        further = result.pairs.first(self.k).values.abs() - tracked.pairs.values.abs()
        return bool((further > self.tolerance * result.scale).any())

    def _next_state(
        self, result: EigenResult, previous: "_TrackerState | None", selected: str, *, double: bool
    ) -> "_TrackerState":
        approximation = previous.approximation(result.operator) if previous else zero_matrix(result.operator)
        basis = result.basis or as_basis(result.pairs, result.operator, self.k)
        others = approximation.updated(basis, self.k, self.extra_pairs)
        return _TrackerState(
            vectors=result.pairs.first(self.k).vectors.to("cpu", result.operator.dtype),
            other_values=others.values,
            other_vectors=others.vectors.cpu(),
            double=double,
            noise=result.noise / (float(result.pairs.values.abs().max()) or 1.0),
            selected=selected,
            missed=result.missed,
        )

    def _values(
        self, result: EigenResult, expansion: Expansion, previous: "_TrackerState | None", *, double: bool
    ) -> dict[str, float | str]:
        pairs = result.pairs.first(self.k)
        values, residuals = pairs.values.tolist(), pairs.residuals.tolist()
        ratio = result.ratio
        gradient = expansion.gradient / expansion.gradient.abs().max()  # its squares do not overflow float32
        return {
            **{f"lambda_{i}": value for i, value in enumerate(values, 1)},
            **{f"residual_{i}": residual for i, residual in enumerate(residuals, 1)},
            "ratio": ratio.value,
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
            "verdict": ratio.verdict,
            "sign": ratio.sign,
            "verified": float(result.check is not None),
            "probability": result.check.probability if result.check else math.nan,
            "missed": float(result.missed),
            "angle": math.nan if previous is None else largest_angle(previous.vectors, pairs.vectors),
            "gradient_share": float(components(pairs.vectors, gradient).square().sum()) / norm(gradient) ** 2,
            "loss": expansion.loss,
            "products": float(result.products),
            "double": float(double),
        }


@dataclass(frozen=True)
class _TrackerState:
    """The state of a tracker between two steps."""

    vectors: Tensor  # (k, n) on the CPU
    other_values: Tensor  # (m,) values of additional Ritz pairs, some from earlier steps
    other_vectors: Tensor  # (m, n) on the CPU
    double: bool  # float32 was too coarse for the tolerance at an earlier step
    noise: float  # error of a product, as last measured, relative to the first value
    selected: str = ""  # the parameters' names and shapes; empty in a state of version 0.1
    weights: Tensor | None = None  # (n,) on the CPU
    gradient: Tensor | None = None  # (n,) on the CPU
    missed: bool = False  # whether a check found a missed value; the next step often misses one too

    def angle(self, pairs: Ritz) -> float:
        """Return the largest angle between pairs and the space of all vectors of this state, in radians."""
        return largest_angle(torch.cat([self.vectors, self.other_vectors]), pairs.vectors)

    def approximation(self, operator: Operator) -> LowRank:
        """Return a low-rank approximation of an operator outside its top eigenspace."""
        return LowRank(self.other_values, self.other_vectors.to(operator.device, operator.dtype))


@dataclass(frozen=True)
class _Move:
    """What changed between two steps."""

    weights: Tensor  # (n,)
    gradient: Tensor  # (n,)

    def preconditioned(self, scale: Tensor) -> "_Move":
        """Return it in the coordinates in which the preconditioned matrix is the Hessian."""
        return _Move(self.weights * scale.sqrt(), self.gradient * scale.rsqrt())

    def exceeds(self, pairs: Ritz) -> bool:
        r"""Whether the curvature along the move, outside the pairs, exceeds that of the last pair.

        It is :math:`\|(I - V V^\top)\, \Delta g\| / \|(I - V V^\top)\, \Delta \theta\|`, which no value that was
        not computed allows on a quadratic, unless it is larger than the last one that was.
        """
        moved, turned = (_norm_outside(pairs.vectors, move) for move in (self.weights, self.gradient))
        return moved > 0 and turned > EXCESS * abs(float(pairs.values[-1])) * moved


def _norm_outside(rows: Tensor, row: Tensor) -> float:
    """Return the norm of the part of a row outside the span of orthonormal rows."""
    outside = row.to(rows.device, rows.dtype, copy=True)
    subtract_(outside, components(rows, outside), rows)
    return norm(outside)


def _move(weights: Tensor, gradient: Tensor, previous: _TrackerState | None) -> _Move | None:
    """Return what changed since the last step; None if that is not known."""
    if previous is None or previous.weights is None or previous.gradient is None:
        return None
    return _Move(weights - previous.weights.to(weights), gradient - previous.gradient.to(gradient))


def _selection(model: nn.Module, patterns: str | None) -> str:
    """Return the names and shapes of the selected parameters, which tell whether vectors fit them."""
    names = select_parameters(model, patterns)
    return "; ".join(f"{name} {tuple(p.shape)}" for name, p in model.named_parameters() if name in names)


def largest_angle(first: Tensor, second: Tensor) -> float:
    """Return the largest principal angle between the spans of orthonormal rows, in radians.

    Computed from the sine, which is accurate for small angles where the cosine is not (Bjorck and Golub, 1973).
    """
    basis = first.to(second.device, second.dtype)
    return math.asin(min(1.0, block_norm(second - (second @ basis.T) @ basis)))
