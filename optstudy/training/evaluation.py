"""Evaluation at fixed weights; the model is left unchanged."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optstudy.training.live import forked_generators
from optstudy.training.state import Moment
from optstudy.workloads.batches import prepare
from optstudy.workloads.models import Loss

EVALUATION_BATCH = 500  # images a chunk; larger ones leave the cache of a CPU


@dataclass(frozen=True)
class Evaluation:
    """Results of evaluating a model on some images."""

    loss: float
    accuracy: float  # fraction
    predicted: Tensor  # (n,) int64


@torch.no_grad()
def evaluate(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> Evaluation:
    """Compute mean loss, accuracy and predicted classes over ``x`` of shape ``(n, ...)``, in eval mode."""
    with in_mode(model, training=False):
        total = torch.zeros((), dtype=torch.float64)
        predicted = []
        for inputs, targets in _chunks(x, y):
            outputs = model(inputs)
            total += loss(outputs, targets).double().cpu() * len(targets)
            predicted.append(outputs.argmax(1))
    classes = torch.cat(predicted)
    return Evaluation(
        loss=float(total) / len(y), accuracy=float((classes == y).double().mean()), predicted=classes.cpu()
    )


def sweep(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[float, float, float]:
    r"""Compute the exact mean loss, accuracy and :math:`\|\nabla L\|_2` over ``x``, in eval mode."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradient = [torch.zeros_like(p) for p in parameters]
    total, correct = 0.0, 0
    with in_mode(model, training=False):
        for inputs, targets in _chunks(x, y):
            outputs = model(inputs)
            value = loss(outputs, targets)
            share = len(targets) / len(y)
            for kept, part in zip(
                gradient, torch.autograd.grad(value, parameters, allow_unused=True), strict=True
            ):
                if part is not None:
                    kept.add_(part, alpha=share)
            total += float(value.detach()) * share
            correct += int((outputs.argmax(1) == targets).sum())
    return total, correct / len(y), _norm(gradient)


def batch_gradient_norm(moment: Moment) -> float:
    """Compute the Euclidean norm of the gradient at the next step, for any optimizer, without side effects."""
    model = moment.model
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with forked_generators(moment.inputs.device):
        outputs = torch.func.functional_call(model, {**parameters, **buffers}, (moment.inputs,))
        value = moment.loss(outputs, moment.targets)
        gradient = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return _norm([part for part in gradient if part is not None])


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def _chunks(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, len(y), EVALUATION_BATCH):
        yield prepare(x[first : first + EVALUATION_BATCH]), y[first : first + EVALUATION_BATCH]


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set a model to train or eval mode, and restore the mode of each module afterwards."""
    found = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was in found.items():
            module.training = was
