"""The loss over the plane of the top two eigenvectors: 41 by 41 points."""

import copy
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from curves.report import Images, Requirement, table
from curves.trained import Trained
from optstudy.curvature import loss_landscape, top_eigenpairs

MAX_DISTANCE = 0.5
FASTER = 3.0
NEAR_FLOOR = 1.25  # times the bare forward passes, which then prevent a larger speed-up
SAME = 1e-4  # relative difference of losses by both methods
Axis = Sequence[float]


def plane(run: Trained, images: Images, points: int, repeats: int) -> list[Requirement]:
    """Print the seconds of each method on both models, the minimum over the repeats."""
    model, layers = run.model, run.layers
    directions = top_eigenpairs(model, functional.cross_entropy, images, tolerance=1e-3).vectors.float()
    axis = torch.linspace(-MAX_DISTANCE, MAX_DISTANCE, points).tolist()
    methods: dict[str, Callable[[], Tensor]] = {}
    for name, module in (("LeNet5", model), ("layer by layer", layers)):
        methods[f"{name}, optstudy"] = lambda m=module: landscape(m, images, directions, axis)  # type: ignore[misc]
        methods[f"{name}, double loop"] = lambda m=module: loop(m, images, directions, axis)  # type: ignore[misc]
        methods[f"{name}, bare forward passes"] = lambda m=module: passes(m, images, points**2)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    losses: dict[str, Tensor] = {}
    for _ in range(repeats):
        for name, method in methods.items():
            began = time.perf_counter()
            losses[name] = method()
            seconds[name].append(time.perf_counter() - began)
    fastest = {name: min(taken) for name, taken in seconds.items()}
    mine, floor = fastest["LeNet5, optstudy"], fastest["LeNet5, bare forward passes"]
    rows = [[name, f"{taken:.2f}", f"{taken / mine:.2f}"] for name, taken in fastest.items()]
    table(f"plane: {run.name}, {points} by {points} points", ("s", "x ours"), rows)
    grids = [
        losses[f"{name}, {method}"]
        for name in ("LeNet5", "layer by layer")
        for method in ("optstudy", "double loop")
    ]
    apart = max(float(((grid - grids[0]) / grids[0]).abs().max()) for grid in grids)
    faster = fastest["layer by layer, double loop"] / mine
    return [
        Requirement(
            f"plane: losses by all methods differ by at most {SAME:g}",
            f"{apart:.1e}",
            apart <= SAME,
            accuracy=True,
        ),
        Requirement(
            f"plane: {FASTER:g} times as fast as the paper's loop, or within {NEAR_FLOOR:g} of bare passes",
            f"{faster:.2f} times; {mine / floor:.2f} of bare passes;"
            f" on the paper's model {speed_up(fastest, 'layer by layer')} times,"
            f" on LeNet5 {speed_up(fastest, 'LeNet5')} times",
            faster >= FASTER or mine / floor <= NEAR_FLOOR,
        ),
    ]


def speed_up(fastest: dict[str, float], name: str) -> str:
    """Return our speed-up on one model."""
    return f"{fastest[f'{name}, double loop'] / fastest[f'{name}, optstudy']:.2f}"


def landscape(model: nn.Module, images: Images, directions: Tensor, axis: Axis) -> Tensor:
    """Compute the losses by optstudy."""
    return loss_landscape(model, functional.cross_entropy, images, directions, [axis, axis]).losses


def perturbed(original: nn.Module, copied: nn.Module, direction: Sequence[Tensor], alpha: float) -> nn.Module:
    """Move a model tensor by tensor: PyHessian's `get_params`."""
    for weight, moved, part in zip(original.parameters(), copied.parameters(), direction, strict=True):
        moved.data = weight.data + alpha * part
    return copied


def loop(model: nn.Module, images: Images, directions: Tensor, axis: Axis) -> Tensor:
    """Compute the losses by the paper's double loop, one forward pass per point."""
    sizes = [weight.numel() for weight in model.parameters()]
    parts = [
        [part.view_as(weight) for part, weight in zip(row.split(sizes), model.parameters(), strict=True)]
        for row in directions
    ]
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    inputs, targets = images
    losses = []
    for one in axis:
        perturbed(model, first, parts[0], one)
        for other in axis:
            perturbed(first, second, parts[1], other)
            losses.append(functional.cross_entropy(second(inputs), targets).item())
    return torch.tensor(losses, dtype=torch.float64).reshape(len(axis), len(axis))


@torch.no_grad()
def passes(model: nn.Module, images: Images, count: int) -> Tensor:
    """Run only the forward passes, a lower limit."""
    for _ in range(count):
        outputs: Tensor = model(images[0])
    return outputs
