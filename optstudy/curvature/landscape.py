"""The loss along a line or over a plane through the weights, and its quadratic model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optstudy.curvature.batches import Data
from optstudy.curvature.build import objective
from optstudy.curvature.containers import describe
from optstudy.curvature.losses import Denominator, Loss
from optstudy.curvature.objective import Objective, select_parameters
from optstudy.curvature.operators import check_end, expand
from optstudy.curvature.progress import Progress, last
from optstudy.curvature.reprs import short_repr
from optstudy.curvature.twice import unwrapped

_PARTS = 20  # passes over the data, between which the progress is shown


@dataclass(frozen=True)
class Landscape:
    r"""The loss at :math:`\theta + \sum_i a_i d_i` over a grid of distances, along one or two directions.

    The quadratic model is :math:`L + \sum_i a_i\, g^\top d_i + \frac12 \sum_{ij} a_i a_j\, d_i^\top H d_j`.
    """

    distances: tuple[Tensor, ...]  # along each direction, (p,) float64
    losses: Tensor  # (p,) or (p, q) float64
    quadratic: Tensor  # the same shape
    loss: float  # at the centre
    slopes: Tensor  # (d,) float64, g^T d_i: directional derivatives
    curvatures: Tensor  # (d, d) float64, d_i^T H d_j

    def __repr__(self) -> str:
        return short_repr(self, "distances", "losses", "loss", "slopes", "curvatures")


def loss_landscape(
    model: nn.Module,
    loss: Loss,
    data: Data,
    directions: Tensor,
    distances: Sequence[Sequence[float]],
    *,
    parameters: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    denominator: Denominator | None = None,
) -> Landscape:
    r"""Evaluate a loss along one direction, or over the plane of two directions.

    The model's own parameters are not modified.

    Args:
        model: Any module, already in train or eval mode as desired.
        loss: Mean loss of a batch.
        data: A batch, or batches; see `hessian`.
        directions: One or two directions, ``(d, n)``; they are not rescaled, see `filter_normalised`.
        distances: Grid of distances along each direction, in units of its length.
        parameters: The parameters that the directions refer to; see `hessian`.
        dtype: Precision; by default that of the parameters.
        denominator: Divisor of the mean loss of a batch; see `hessian`.

    Raises:
        ValueError: If there are not one or two directions of the parameters' size, or as `hessian` does.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> data = torch.ones(4, 1), torch.ones(4, 1)
        >>> result = loss_landscape(model, nn.functional.mse_loss, data, torch.ones(1, 1), [[-1.0, 0.0, 1.0]])
        >>> result.curvatures
        tensor([[2.]], dtype=torch.float64)
        >>> result
        Landscape(distances=([-1, 0, 1],), losses=[...], loss=..., slopes=[...], curvatures=(1, 1) float64)
    """
    return last(
        iter_landscape(
            model,
            loss,
            data,
            directions,
            distances,
            parameters=parameters,
            dtype=dtype,
            denominator=denominator,
        )
    )


def iter_landscape(
    model: nn.Module,
    loss: Loss,
    data: Data,
    directions: Tensor,
    distances: Sequence[Sequence[float]],
    *,
    parameters: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    denominator: Denominator | None = None,
) -> Iterator[Progress[Tensor] | Landscape]:
    """Iterate `loss_landscape`: yield the progress with the losses so far, and at the end the landscape."""
    function = objective(model, loss, data, parameters=parameters, dtype=dtype, denominator=denominator)
    if not isinstance(directions, Tensor):
        raise TypeError(f"directions is {describe(directions)}; give a tensor of one or two rows")
    if directions.ndim != 2 or len(directions) not in (1, 2) or directions.shape[1] != function.dim:  # noqa: PLR2004
        expected = f"(1, {function.dim}) or (2, {function.dim})"
        raise ValueError(f"directions has shape {tuple(directions.shape)}; it must be {expected}")
    if len(distances) != len(directions):
        raise ValueError(f"there are {len(directions)} directions, but distances for {len(distances)}")
    axes = tuple(torch.tensor(axis, dtype=torch.float64) for axis in distances)
    if not all(bool(axis.isfinite().all()) for axis in axes):
        raise ValueError("distances has a number that is not finite")
    rows = directions.to(function.device, function.dtype)
    points = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    expansion = expand(function)
    slopes = (rows @ expansion.gradient).cpu().double()
    curvatures = (rows @ expansion.hessian.apply(rows).T).cpu().double()
    second_order = torch.einsum("pi,ij,pj->p", points, curvatures, points) / 2
    shape = tuple(len(axis) for axis in axes)
    losses = torch.empty(0, dtype=torch.float64)
    for part in torch.split(points, max(math.ceil(len(points) / _PARTS), 1)):
        losses = torch.cat([losses, losses_at(function, part, rows)])
        yield Progress(len(losses), len(points), losses)
    check_end(expansion.hessian)
    yield Landscape(
        distances=axes,
        losses=losses.reshape(shape),
        quadratic=(expansion.loss + points @ slopes + second_order).reshape(shape),
        loss=expansion.loss,
        slopes=slopes,
        curvatures=(curvatures + curvatures.T) / 2,
    )


@torch.no_grad()
def losses_at(objective: Objective, points: Tensor, directions: Tensor) -> Tensor:
    """Return the loss at points ``(p, d)``, distances along ``directions`` ``(d, n)``; ``(p,)`` float64 on the CPU."""
    weights = objective.weights

    def parameters() -> Iterator[list[Tensor]]:
        for point in points.to(objective.device, objective.dtype):
            yield objective.unflatten(weights + point @ directions)

    return objective.mean(
        lambda inputs, targets: torch.stack(
            [objective.value(moved, inputs, targets).reshape(()).cpu().double() for moved in parameters()]
        )
    ).cpu()


def filter_normalised(
    model: nn.Module, direction: Tensor, parameters: str | Sequence[str] | None = None
) -> Tensor:
    r"""Scale each filter of a direction to the norm of the model's filter (Li et al., 2018, section 4).

    A filter is the weights of one output: :math:`d_{ij} \leftarrow d_{ij} \|\theta_{ij}\| / \|d_{ij}\|`. The direction
    is set to zero for biases and the scales of normalisation layers.

    Args:
        model: The model.
        direction: The direction in its parameters, ``(n,)``.
        parameters: The parameters that it refers to; see `hessian`.

    Raises:
        ValueError: If the sizes of direction and parameters differ.
    """
    if not (isinstance(model, nn.Module) and isinstance(direction, Tensor)):
        raise TypeError(
            f"model is {describe(model)} and direction is {describe(direction)}; give a torch.nn.Module and a tensor"
        )
    model = unwrapped(model)
    names = select_parameters(model, parameters)
    size = sum(model.get_parameter(name).numel() for name in names)
    if direction.shape != (size,):
        raise ValueError(f"the direction has shape {tuple(direction.shape)}; it must be ({size},)")
    scaled, start = [], 0
    for name in names:
        weight = model.get_parameter(name).detach()
        part = direction[start : start + weight.numel()].view_as(weight).clone()
        start += weight.numel()
        if weight.ndim < 2:  # noqa: PLR2004  # a bias, or a scale
            scaled.append(part.zero_().flatten())
            continue
        norms = part.flatten(1).norm(dim=1)
        norms = torch.where(norms > 0, norms, torch.inf)  # a filter whose direction is zero
        factor = weight.flatten(1).norm(dim=1).to(part.dtype) / norms
        scaled.append((part.flatten(1) * factor.unsqueeze(1)).flatten())
    return torch.cat(scaled)
