"""Measure the curvature of runs and checkpoints on samples of any size."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from optstudy.curvature.progress import result_of
from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Flow, Gather, Task, Workers, drive, require
from optstudy.posthoc.checkpoints import COMPLEX, is_dense, load_weights
from optstudy.posthoc.request import CurvatureRequest
from optstudy.posthoc.samples import Sample, sampled_images
from optstudy.records.curvature import CurvatureResult
from optstudy.records.plan import Plan
from optstudy.training import advance, numerics, start
from optstudy.training.curvature import CurvatureProgress, CurvatureSteps, curvature_steps
from optstudy.workloads.datasets import load
from optstudy.workloads.models import build_model, load_loss
from optstudy.workloads.user_code import describe_exception


@dataclass(frozen=True)
class Subject:
    """Weights to measure: given weights, or the weights of a run at a stage of its training."""

    name: str  # of a run or a file
    plan: Plan
    weights: bytes | None  # a state_dict as written by torch.save; None if they must be trained first
    optimizer: str = ""  # name in the study
    at: str = "end"

    @property
    def epoch(self) -> int:
        """The epoch of the stage."""
        return {"start": 0, "middle": self.plan.epochs // 2, "end": self.plan.epochs}[self.at]

    def on(self, device: str) -> "Subject":
        """Return the subject on another device."""
        return replace(self, plan=replace(self.plan, device=device))


def measure_all(
    subjects: Sequence[Subject], samples: Sequence[Sample], request: CurvatureRequest, workers: Workers
) -> Iterator[CurvatureProgress | CurvatureResult]:
    """Measure every subject on every sample, yielding the progress, and each result as it is completed.

    Raises:
        OptstudyError: If a measurement fails.
    """
    yield from drive([_subject_flow(subject, samples, request) for subject in subjects], workers)


def _subject_flow(subject: Subject, samples: Sequence[Sample], request: CurvatureRequest) -> Flow:
    if subject.weights is None:
        weights = yield from require(Task(train_weights, (subject.plan, subject.epoch), cost=math.inf))
        subject = replace(subject, weights=weights)
    yield Gather(tuple(_sample_flow(subject, sample, request) for sample in samples))


def _sample_flow(subject: Subject, sample: Sample, request: CurvatureRequest) -> Flow:
    yield (yield from require(Task(measure_steps, (subject, sample, request), cost=sample.count or math.inf)))


def train_weights(plan: Plan, epoch: int) -> bytes:
    """Retrain a run to the end of an epoch, and return its weights; a worker's task."""
    state, _ = advance(start(plan), plan, epoch)
    buffer = io.BytesIO()
    torch.save(state.model, buffer)
    return buffer.getvalue()


def measure(subject: Subject, sample: Sample, request: CurvatureRequest) -> CurvatureResult:
    """Measure one subject on one sample; see `measure_steps`."""
    return result_of(measure_steps(subject, sample, request))


def measure_steps(
    subject: Subject, sample: Sample, request: CurvatureRequest
) -> CurvatureSteps[CurvatureResult]:
    """Measure one subject on one sample, and yield the progress; a worker's task.

    Raises:
        OptstudyError: If the measurement fails; the message names the subject.
    """
    try:
        with numerics(subject.plan):
            steps = _measure(subject, sample, request)
            result = yield from _named(steps, run=subject.name, at=subject.at, seed=sample.seed)
    except OptstudyError:
        raise
    except Exception as error:  # raised by a user's model or loss, or by a library because of them
        reason = describe_exception(error, subject.plan.model)
        raise OptstudyError(f"{subject.name}: its curvature cannot be measured: {reason}") from error
    return replace(result, optimizer=subject.optimizer)


def _named(steps: CurvatureSteps[CurvatureResult], **names: Any) -> CurvatureSteps[CurvatureResult]:
    """Name the subject in the progress and the result."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            result: CurvatureResult = end.value
            return replace(result, **names)
        yield replace(progress, **names)


def _measure(subject: Subject, sample: Sample, request: CurvatureRequest) -> CurvatureSteps[CurvatureResult]:
    plan, model = subject.plan, _model(subject)
    size = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    count = max(request.k, 2 if request.landscape else 1)  # a plane needs two
    if size < count:
        raise UsageError(
            f"{subject.name} has {size} parameter{'s' * (size != 1)}, fewer than the {count} eigenvalues requested"
        )
    return curvature_steps(
        model,
        load_loss(plan.loss),
        sampled_images(plan, sample),
        k=request.k,
        dtype=None if request.dtype is None else getattr(torch, request.dtype),
        density=request.density,
        landscape=request.landscape,
    )


def _model(subject: Subject) -> nn.Module:
    plan = subject.plan
    assert subject.weights is not None
    weights = torch.load(io.BytesIO(subject.weights), weights_only=True, map_location="cpu")
    tensors = {name: value for name, value in weights.items() if isinstance(value, torch.Tensor)}
    for name, tensor in tensors.items():
        if not is_dense(tensor, COMPLEX):
            raise OptstudyError(f"{subject.name}: {name} of its weights is not a dense tensor of numbers")
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise OptstudyError(f"{subject.name}: its weights are not all finite numbers; the run diverged")
    model = build_model(plan.model, load(plan.dataset))
    if load_weights(model, weights, subject.name):
        raise UsageError(
            f"{subject.name}: the model's parameter names have changed since the run was trained;"
            " --checkpoint can still read its weights.pt"
        )
    return model.to(plan.device).eval()
