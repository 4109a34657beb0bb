"""Check that the model, the loss and the mini-batches of a run fit together, before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.objective import eval_mode
from optstudy.errors import UsageError, first_line
from optstudy.records.plan import Plan
from optstudy.training.generators import forked_generators
from optstudy.training.live import LiveRun
from optstudy.workloads.batches import epoch_order, prepare
from optstudy.workloads.datasets import load
from optstudy.workloads.splits import load_split


@dataclass(frozen=True)
class MiniBatch:
    """A mini-batch of a run, on its device."""

    run: str  # "a trial" or "a final run"
    last: bool  # whether it is the last of its epoch
    images: int  # in the epoch
    x: Tensor  # prepared for the model
    y: Tensor

    def __str__(self) -> str:
        which = "last" if self.last else "first"
        return f"the {which} mini-batch of {self.run}, {len(self.y)} of {self.images:,} examples"


def mini_batches(plan: Plan, count: int) -> list[MiniBatch]:
    """Return mini-batches of a run's first epoch: the first, the last, and then those in between."""
    (x, y), _ = load_split(plan.dataset, plan.split)
    run = "a trial" if plan.split.role == "tuning" else "a final run"
    order = torch.split(epoch_order(len(y), plan.seed, 1), plan.batch_size)
    chosen = [0, len(order) - 1, *range(1, len(order) - 1)][: min(count, len(order))]
    return [
        MiniBatch(
            run,
            index == len(order) - 1,
            len(y),
            prepare(x[order[index]].to(plan.device)),
            y[order[index]].to(plan.device),
        )
        for index in dict.fromkeys(chosen)
    ]


def check_fit(plan: Plan, live: LiveRun, batches: Sequence[MiniBatch]) -> float:
    """Check the outputs and the loss on mini-batches at the initial weights, in eval and in train mode.

    Returns:
        The loss of the first mini-batch, in eval mode.

    Raises:
        UsageError: If model, loss and data do not fit together.
    """
    with eval_mode(live.model):
        value = _loss(plan, live, batches[0])
    for batch in batches:
        live.model.train()
        _loss(plan, live, batch)
    return value


def check_second_pass(plan: Plan, live: LiveRun, images: Tensor) -> None:
    """Check that a model in eval mode gives the same outputs for the same images a second time.

    Raises:
        UsageError: If it does not.
    """
    x = prepare(images)
    outputs = []
    for _ in range(2):
        with torch.no_grad(), eval_mode(live.model), forked_generators(x.device):
            outputs.append(live.model(x))
    if not torch.allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-6, equal_nan=True):
        raise UsageError(
            f"model {plan.model!r} gives other outputs for the same examples at the second pass, in eval mode; a"
            " forward pass must depend on weights, buffers and the global generators alone"
        )


def _loss(plan: Plan, live: LiveRun, batch: MiniBatch) -> float:
    mode = "train" if live.model.training else "eval"
    outputs = _outputs(plan, live, batch, mode)
    classes = len(load(plan.dataset).classes)
    expected = (len(batch.y), classes)
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != expected:
        raise UsageError(
            f"model {plan.model!r} returns {_described(outputs)} for {len(batch.y)} examples of {classes} classes"
            f"{' in train mode' * (mode == 'train')}; it must return a tensor of shape {expected}"
        )
    try:
        with torch.no_grad():
            value = live.loss(outputs, batch.y)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"loss {plan.loss!r} does not accept outputs of shape {expected} with labels: {first_line(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.ndim != 0:
        raise UsageError(
            f"loss {plan.loss!r} returns {_described(value)}; it must return one number, the mean over the batch"
        )
    if not bool(value.isfinite()):
        raise UsageError(
            f"loss {plan.loss!r} of model {plan.model!r} is {float(value)} at the initial weights, on {batch};"
            " it must be finite"
        )
    return float(value)


def _outputs(plan: Plan, live: LiveRun, batch: MiniBatch, mode: str) -> object:
    try:
        with torch.no_grad():
            return live.model(batch.x)
    except (RuntimeError, ValueError, TypeError) as error:
        if mode == "train" and batch.last and len(batch.y) < plan.batch_size:
            raise UsageError(
                f"model {plan.model!r} cannot be trained on {batch}: {first_line(error)}; {_remedy(plan, batch)}"
            ) from error
        raise UsageError(
            f"model {plan.model!r} does not accept a batch of shape {tuple(batch.x.shape)}"
            f"{' in train mode' * (mode == 'train')}: {first_line(error)}"
        ) from error


def _remedy(plan: Plan, batch: MiniBatch) -> str:
    """Name a batch size whose last mini-batch is not smaller than the others by much."""
    fitting = (
        size
        for size in range(plan.batch_size, 1, -1)
        if batch.images % size == 0 or batch.images % size > len(batch.y)
    )
    key = "tune_size" if batch.run == "a trial" else "train_size"
    images = batch.images - len(batch.y)
    sizes = "".join(f"--set batch_size={size}, or " for size in list(fitting)[:1])
    return f"use {sizes}--set {key}={images}"


def _described(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
