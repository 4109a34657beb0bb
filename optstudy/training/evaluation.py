"""Evaluation at fixed weights; the model is left unchanged."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optstudy.curvature.losses import batch_weight, loss_denominator
from optstudy.curvature.objective import eval_mode
from optstudy.training.generators import forked_generators
from optstudy.training.state import StepContext
from optstudy.workloads.batches import prepare
from optstudy.workloads.models import Loss

EVALUATION_BATCH = 500  # images per batch; larger batches exceed the cache of a CPU


@dataclass(frozen=True)
class Evaluation:
    """A model's results on some images."""

    loss: float
    accuracy: float  # fraction
    gradient_norm: float | None = None  # None if not computed


@torch.no_grad()
def evaluate(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[Evaluation, Tensor]:
    """Compute mean loss and accuracy over ``x`` ``(n, ...)``, and the predicted classes ``(n,)``, in eval mode."""
    with eval_mode(model):
        total = torch.zeros((), dtype=torch.float64)
        predicted = []
        for inputs, targets in chunks(x, y):
            outputs = model(inputs)
            total += weighted(loss, loss(outputs, targets), targets).cpu()
            predicted.append(outputs.argmax(1))
    classes = torch.cat(predicted)
    return Evaluation(mean_loss(loss, total, y), float((classes == y).double().mean())), classes.cpu()


def sweep(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> Evaluation:
    r"""Compute the exact mean loss, accuracy and :math:`\|\nabla L\|_2` over ``x``, in eval mode."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradient = [torch.zeros_like(p) for p in parameters]
    total, correct = 0.0, 0
    denominator = loss_denominator(loss)
    with eval_mode(model):
        for inputs, targets in chunks(x, y):
            outputs = model(inputs)
            correct += int((outputs.argmax(1) == targets).sum())
            weight = batch_weight(denominator, targets)
            if not weight:  # all targets are ignored
                continue
            value = loss(outputs, targets)
            share = weight / batch_weight(denominator, y)
            parts = torch.autograd.grad(value, parameters, allow_unused=True)
            for accumulated, part in zip(gradient, parts, strict=True):
                if part is not None:
                    accumulated.add_(part, alpha=share)
            total += float(value.detach()) * share
    return Evaluation(total, correct / len(y), _norm(gradient))


def weighted(loss: Loss, value: Tensor, targets: Tensor) -> Tensor:
    """Return a batch's loss times its denominator, float64, or a sum as it is; 0 if all targets are ignored.

    The total of an epoch is `mean_loss` of their sum. This does not wait for the device.
    """
    denominator = loss_denominator(loss)
    weight = 1.0 if denominator is None else denominator(targets)
    weight = torch.as_tensor(weight, dtype=torch.float64, device=value.device)
    return torch.where(weight > 0, value.double() * weight, 0.0)


def mean_loss(loss: Loss, total: Tensor, y: Tensor) -> float:
    """Return the loss of all data from the total of `weighted` losses; ``y`` holds the targets of all batches."""
    weight = batch_weight(loss_denominator(loss), y)
    return float(total) / weight if weight else math.nan


def batch_gradient_norm(context: StepContext) -> float:
    """Compute the Euclidean norm of the gradient at the next step, for any optimizer, without side effects."""
    model = context.model
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with forked_generators(context.inputs.device):
        outputs = torch.func.functional_call(model, {**parameters, **buffers}, (context.inputs,))
        value = context.loss(outputs, context.targets)
        gradient = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return _norm([part for part in gradient if part is not None])


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def chunks(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images, prepared for a model, and labels."""
    for first in range(0, len(y), EVALUATION_BATCH):
        yield prepare(x[first : first + EVALUATION_BATCH]), y[first : first + EVALUATION_BATCH]
