"""Top eigenpairs by Lanczos, with residuals in float64 and a search for missed values."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from optstudy.curvature.arguments import check_options, check_whole
from optstudy.curvature.batches import Data
from optstudy.curvature.certify import EigenResult, Goal, certify_steps, check_limits, ratio_of
from optstudy.curvature.completeness import Check
from optstudy.curvature.cost import kept_vectors
from optstudy.curvature.losses import Loss
from optstudy.curvature.objective import check_precision
from optstudy.curvature.operators import Operator, check_end, check_operator, hessian, in_double
from optstudy.curvature.progress import Progress, accumulate, last
from optstudy.curvature.ratio import Ratio
from optstudy.curvature.reprs import short_repr
from optstudy.curvature.ritz import sort_key

Order = Literal["magnitude", "largest", "smallest"]

TOLERANCE = 1e-4
MISS_PROBABILITY = 0.01
FLOAT32_EPS = float(torch.finfo(torch.float32).eps)
FLOAT32_TOLERANCE = 1e-5  # tighter tolerances are beyond float32, so float64 is used from the start


@dataclass(frozen=True)
class Eigenpairs:
    r"""Eigenpairs of an operator, in order, with error bounds.

    An eigenvalue of :math:`A` lies within ``residuals[i]`` of ``values[i]``. The angle between ``vectors[i]`` and
    an eigenvector is at most ``angles[i]``: :math:`\sin\angle \le \|r\| / \text{gap}` (Davis and Kahan, 1970), with the
    gap to the other values and to the bounds of the check on all that were not computed. The probability that a value
    further out was missed is at most ``check.probability``.
    """

    values: Tensor  # (k,) float64, signed
    vectors: Tensor  # (k, n) unit rows
    residuals: Tensor  # (k,) float64, ||A v - value v||, recomputed in float64 if the device supports it
    angles: Tensor  # (k,) float64, radians
    delta: float  # 2-norm of the residual block
    next_value: float  # rough estimate of the next value; nan if there is none
    products: int  # total number of operator products
    converged: bool
    check: Check | None
    dtype: torch.dtype  # precision in which the values were computed
    noise: float  # 2-norm error of one product with a unit vector in that precision
    accuracy: (
        float  # the same of the products from which values and residuals are, in float64 if it is available
    )
    operator: str  # name of the operator
    order: Order

    def __repr__(self) -> str:
        return short_repr(self, "values", "residuals", "converged", "products", "vectors")

    @property
    def ratio(self) -> Ratio:
        """The ratio of the first two eigenvalues by magnitude.

        Raises:
            ValueError: If there is only one pair, or the order is not by magnitude.
        """
        if len(self.values) < 2 or self.order != "magnitude":  # noqa: PLR2004  # a ratio needs two
            raise ValueError(
                "a ratio requires two eigenvalues by magnitude; use k=2 or more and order='magnitude'"
            )
        return ratio_of(self.values, self.delta, self.accuracy, self.check, self.next_value)


def top_eigenpairs(
    source: Operator | nn.Module,
    loss: Loss | None = None,
    data: Data | None = None,
    *,
    k: int = 2,
    order: Order = "magnitude",
    tolerance: float = TOLERANCE,
    probability: float | None = MISS_PROBABILITY,
    max_products: int = 2000,
    memory: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Eigenpairs:
    r"""Return the top ``k`` eigenpairs of an operator, or of the Hessian of a model.

    Lanczos from one random row with full reorthogonalisation and thick restarts (Wu and Simon, 2000). Residuals are
    recomputed in float64. If they show that float32 products are too coarse for the tolerance, the search continues in
    float64, as `dtype` records. Lanczos from another random row in the complement then searches for missed values, such
    as the copies of a multiple eigenvalue; if it finds one, it goes on until that has converged, and another check
    follows.

    Args:
        source: An `Operator`, or a model, whose Hessian is used.
        loss: Mean loss of a batch, for a model; see `hessian`.
        data: A batch, or batches, for a model; see `hessian`.
        k: Number of eigenpairs.
        order: ``magnitude`` (absolute values; signs are returned), or algebraically ``largest`` or ``smallest``.
        tolerance: Largest residual of a pair, relative to the largest magnitude.
        probability: Probability of a missed value at which the checks stop: the :math:`i`-th aims at
            :math:`6 p / (\pi i)^2`, and their sum counts. A check uses at most 40 products, and the result records the
            bound that was reached. None for no check.
        max_products: Largest number of products, those of checks and in float64 included; the search stops there,
            converged or not.
        memory: Number of vectors that may be kept; by default as many as fit 0.85 GB, between 20 and 128. With fewer,
            more products are needed, and a check that they limit may not reach the probability.
        seed: Seed of the random starts, the only source of randomness.
        options: Further arguments of `hessian`, for a model.

    Raises:
        ValueError: If ``k`` is not between 1 and the dimension, ``order`` is unknown, ``max_products`` or ``memory`` is
            too small, or the operator is not symmetric; for a model, also as `hessian` does.
        FloatingPointError: If a product is not finite.
        MemoryError: If the vectors do not fit in memory, with the number that would.

    Example:
        >>> a = torch.diag(torch.tensor([3.0, -2.0, 1.0, 0.5, 0.1], dtype=torch.float64))
        >>> pairs = top_eigenpairs(Operator(lambda v: v @ a, 5, a.dtype, a.device, "diagonal"))
        >>> [round(value, 6) for value in pairs.values.tolist()], pairs.converged
        ([3.0, -2.0], True)
        >>> top_eigenpairs(Operator(lambda v: v @ a, 5, a.dtype, a.device, "diagonal"), k=1)
        Eigenpairs(values=[3], residuals=[...], converged=True, products=..., vectors=(1, 5) float64)
        >>> pairs.ratio.verdict, pairs.ratio.sign
        ('separated', 'opposite')
    """
    return last(
        iter_eigenpairs(
            source,
            loss,
            data,
            k=k,
            order=order,
            tolerance=tolerance,
            probability=probability,
            max_products=max_products,
            memory=memory,
            seed=seed,
            **options,
        )
    )


def iter_eigenpairs(
    source: Operator | nn.Module,
    loss: Loss | None = None,
    data: Data | None = None,
    *,
    k: int = 2,
    order: Order = "magnitude",
    tolerance: float = TOLERANCE,
    probability: float | None = MISS_PROBABILITY,
    max_products: int = 2000,
    memory: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Iterator[Progress[Tensor] | Eigenpairs]:
    """Iterate `top_eigenpairs`: yield the progress with the values so far, and at the end the eigenpairs."""
    if order not in get_args(Order):
        raise ValueError(f"order is {order!r}; give one of {', '.join(get_args(Order))}")
    check_whole(k=k, max_products=max_products, seed=seed)
    operator = _operator(source, loss, data, options)
    if not 1 <= k <= operator.dim:
        raise ValueError(f"k is {k}; the operator has {operator.dim} eigenvalues")
    if max_products < 2 * k + 1:
        raise ValueError(
            f"max_products is {max_products}; give at least {2 * k + 1}, since each of {k} pairs takes two products"
        )
    check_limits(tolerance, probability)
    asked = operator
    check_precision(operator.device, operator.dtype)
    if tolerance < FLOAT32_TOLERANCE:
        operator = in_double(operator) or operator
    memory = kept_vectors(operator, k, memory)
    generator = torch.Generator().manual_seed(int(seed))
    goal = Goal(k, order, tolerance, probability, max_products, memory, lean=True)
    result = yield from accumulate(certify_steps(operator, goal, generator), k)
    check_end(asked)
    # Vectors in float64 are rounded to the precision of the operator.
    rounding = 0.0 if result.pairs.vectors.dtype == result.operator.dtype else FLOAT32_EPS
    yield Eigenpairs(
        values=result.pairs.values,
        vectors=result.pairs.vectors.to(result.operator.dtype),
        residuals=result.residuals + rounding * result.scale,
        angles=_angles(result, order) + rounding,
        delta=result.pairs.delta,
        next_value=result.next_value,
        products=result.products,
        converged=result.converged,
        check=result.check,
        dtype=result.dtype,
        noise=result.noise,
        accuracy=result.accuracy,
        operator=result.operator.name,
        order=order,
    )


def _operator(
    source: Operator | nn.Module, loss: Loss | None, data: Data | None, options: dict[str, Any]
) -> Operator:
    if isinstance(source, Operator):
        if loss is not None or data is not None or options:
            raise ValueError("loss, data and options apply to a model only; an operator takes none of them")
        return source
    if not isinstance(source, nn.Module) and loss is None:
        check_operator(source, "top_eigenpairs")
    if loss is None or data is None:
        raise ValueError("a model needs its loss and data: top_eigenpairs(model, loss, (inputs, targets))")
    check_options("top_eigenpairs", options, hessian)
    return hessian(source, loss, data, **options)


def _angles(result: EigenResult, order: str) -> Tensor:
    """Bound the angle between each Ritz vector and an eigenvector, by its residual over its gap."""
    values, residuals = result.pairs.values, result.residuals
    apart = (values.unsqueeze(1) - values).abs() - result.pairs.delta - result.accuracy
    gaps = apart.fill_diagonal_(math.inf).min(dim=1).values
    gaps = gaps.minimum(_distance_to_others(result, order) - result.pairs.delta - result.accuracy).clamp(
        min=0
    )
    return torch.where(gaps > residuals, residuals / gaps, 1.0).asin()


def _distance_to_others(result: EigenResult, order: str) -> Tensor:
    """Return the distance of each value to the nearest bound on those that were not computed, ``(k,)``."""
    values, check = result.pairs.values, result.check
    if len(values) == result.operator.dim:
        return torch.full_like(values, math.inf)
    if check is not None:
        above, below = check.above, check.below
    else:
        last = sort_key(float(values[-1]), order)
        above = last if order != "smallest" else math.inf
        below = last if order != "largest" else math.inf
    return torch.maximum(values - above, -below - values).clamp(min=0)
