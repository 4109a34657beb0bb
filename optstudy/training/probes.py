"""The probes of a run (add new ones to `build_probes`): measurements during training, and their images."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from optstudy.curvature import EigenTracker
from optstudy.curvature.tracker import Step
from optstudy.records.curvature import CURVATURE_FORMAT
from optstudy.records.eigen_trace import FORMAT
from optstudy.records.plan import Plan, steps_per_epoch
from optstudy.training.evaluation import EVALUATION_BATCH, chunks
from optstudy.training.state import Probe
from optstudy.workloads.batches import sample
from optstudy.workloads.models import load_loss
from optstudy.workloads.splits import LabelledImages, load_split

# Steps between two measurements of the preconditioned Hessian, each from a random start.
PRECONDITIONED_EVERY = 25


@dataclass(frozen=True)
class ImageBatches:
    """Training images as an iterable of batches, prepared for a model during iteration."""

    x: Tensor
    y: Tensor

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return chunks(self.x, self.y)


class _StudyTracker(EigenTracker):
    """A tracker whose state and values have a format, and that goes on where the Hessian is not finite."""

    def observe(
        self, context: Step, state: dict[str, Any] | None
    ) -> tuple[dict[str, Any], Mapping[str, float | str]]:
        """Find the eigenpairs before a step, anew after a state of another format; see `EigenTracker.observe`."""
        known = dict(state or {})
        if known.pop(FORMAT, 0) != CURVATURE_FORMAT:
            known = {}
        values: Mapping[str, float | str]
        try:
            known, values = super().observe(context, known or None)
        except FloatingPointError:
            values = {"loss": math.nan}
        return {**known, FORMAT: CURVATURE_FORMAT}, {**values, FORMAT: CURVATURE_FORMAT}


def sample_images(
    train: LabelledImages, count: int | None, seed: int, device: str
) -> ImageBatches | tuple[Tensor, Tensor]:
    """Return the images on which curvature is measured, the same for all runs of a study.

    Args:
        train: The training images.
        count: Number of images; None for all. A smaller sample is a prefix of a larger one.
        seed: Seed of the sample.
        device: Device of the returned images.

    Returns:
        A batch, or several; see `as_batches`.
    """
    x, y = train
    if count is not None and count < len(y):
        indices = sample(len(y), count, seed)
        x, y = x[indices], y[indices]
    return as_batches(x, y, device)


def as_batches(x: Tensor, y: Tensor, device: str) -> ImageBatches | tuple[Tensor, Tensor]:
    """Return images as a single batch if they fit, so that its graph can be reused, otherwise as several batches."""
    images = ImageBatches(x.to(device), y.to(device))
    return next(iter(images)) if len(y) <= EVALUATION_BATCH else images


def build_probes(plan: Plan) -> list[Probe]:
    """Return the probes of a plan; none if it tracks no eigenvalues."""
    if plan.trace is None or plan.trace.last == 0:
        return []
    trace, (train, _) = plan.trace, load_split(plan.dataset, plan.split)
    total = plan.epochs * steps_per_epoch(len(train[1]), plan.batch_size)
    first = 0 if trace.last is None else max(0, total - trace.last)
    steps = range(first, total, trace.every)
    images = sample_images(train, trace.samples, trace.seed, plan.device)
    loss = load_loss(plan.loss)
    preconditioned_steps = range(first, total, max(trace.every, PRECONDITIONED_EVERY))
    return [
        _StudyTracker(loss, images, steps),
        _StudyTracker(loss, images, preconditioned_steps, preconditioned=True, name="preconditioned"),
    ]
