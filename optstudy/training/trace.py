"""What of a run's curvature is watched while it trains, and on which images."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from optstudy.curvature import EigenTracker
from optstudy.data import Parts, load_parts, prepare, sample
from optstudy.models import load_loss
from optstudy.training.evaluation import EVALUATION_BATCH
from optstudy.training.records import Plan, Probe, steps_per_epoch

PRECONDITIONED_EVERY = 25  # steps between two looks at the preconditioned Hessian, each from a random start


@dataclass(frozen=True)
class Images:
    """Training images as batches that a model takes, made anew each time they are gone through."""

    x: Tensor
    y: Tensor

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self.y), EVALUATION_BATCH):
            some = slice(first, first + EVALUATION_BATCH)
            yield prepare(self.x[some]), self.y[some]


def sample_images(parts: Parts, count: int | None, seed: int, device: str) -> Images | tuple[Tensor, Tensor]:
    """Return the images on which curvature is measured, the same for all runs of a study.

    Args:
        parts: The divided data set.
        count: How many training images; None for all. A smaller sample is the beginning of a larger one.
        seed: Of the choice.
        device: Where to put them.

    Returns:
        As `images_of`.
    """
    x, y = parts.train_x, parts.train_y
    if count is not None and count < len(y):
        chosen = sample(len(y), count, seed)
        x, y = x[chosen], y[chosen]
    return images_of(x, y, device)


def images_of(x: Tensor, y: Tensor, device: str) -> Images | tuple[Tensor, Tensor]:
    """Return images as one batch where they fit into one, so that its graph can be kept; else as batches."""
    images = Images(x.to(device), y.to(device))
    return next(iter(images)) if len(y) <= EVALUATION_BATCH else images


def probes_of(plan: Plan) -> list[Probe]:
    """Make the probes of a plan: none where nothing is to be traced."""
    if plan.trace is None or plan.trace.last == 0:
        return []
    trace, parts = plan.trace, load_parts(plan.dataset, plan.split)
    total = plan.epochs * steps_per_epoch(len(parts.train_y), plan.batch_size)
    first = 0 if trace.last is None else max(0, total - trace.last)
    steps = range(first, total, trace.every)
    images = sample_images(parts, trace.samples, trace.seed, plan.device)
    loss = load_loss(plan.loss)
    few = range(first, total, max(trace.every, PRECONDITIONED_EVERY))
    return [
        EigenTracker(loss, images, steps),
        EigenTracker(loss, images, few, preconditioned=True, name="preconditioned"),
    ]
