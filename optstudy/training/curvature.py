"""The curvature of a model on a sample: eigenvalues, spectrum, trace, and the loss around its weights."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from optstudy.curvature import (
    Eigenpairs,
    Operator,
    Progress,
    expand,
    iter_density,
    iter_eigenpairs,
    iter_landscape,
    iter_trace,
    objective,
)
from optstudy.curvature.progress import result_of
from optstudy.records.curvature import CURVATURE_FORMAT, CurvatureResult
from optstudy.records.plan import Plan
from optstudy.training.numerics import numerics
from optstudy.training.probes import ImageBatches, sample_images
from optstudy.training.state import RunState
from optstudy.workloads.datasets import load
from optstudy.workloads.models import Loss, build_model, load_loss
from optstudy.workloads.splits import load_split

T = TypeVar("T")

LINE_POINTS = 41  # along each direction, as in the paper
MAX_DISTANCE = 1.0  # the distances run from -1 to 1, as in the paper
PLANE_VECTORS = 2
TRACE_PRODUCTS = 60
DENSITY_PROBES, DENSITY_STEPS = 5, 40
CURVATURE_PRODUCTS = DENSITY_PROBES * DENSITY_STEPS + TRACE_PRODUCTS + 60  # approximate total
LANDSCAPE_POINTS = LINE_POINTS * (LINE_POINTS + 1)


def measure_final_curvature(plan: Plan, state: bytes) -> bytes:
    """Measure the curvature at the end of a run, on the sample of its plan; the task of a worker.

    Returns:
        A `CurvatureResult` as bytes.
    """
    assert plan.trace is not None
    with numerics(plan):
        train, _ = load_split(plan.dataset, plan.split)
        images = sample_images(train, plan.trace.samples, plan.trace.seed, plan.device)
        model = build_model(plan.model, load(plan.dataset)).to(plan.device)
        model.load_state_dict(RunState.from_bytes(state).model)
        loss = load_loss(plan.loss)
        result = measure_curvature(model.eval(), loss, images, density=True, landscape=True)
    return replace(result, seed=plan.trace.seed).to_bytes()


def measure_curvature(
    model: nn.Module,
    loss: Loss,
    images: ImageBatches | tuple[Tensor, Tensor],
    *,
    k: int = 2,
    dtype: torch.dtype | None = None,
    density: bool = False,
    landscape: bool = False,
) -> CurvatureResult:
    """Measure the curvature of a model on a sample; see `curvature_steps`."""
    return result_of(
        curvature_steps(model, loss, images, k=k, dtype=dtype, density=density, landscape=landscape)
    )


@dataclass(frozen=True)
class CurvatureProgress:
    """How far a measurement is."""

    part: str  # "eigenvalues", "spectrum", "trace", "loss line" or "loss plane"
    done: int  # products, or evaluations of the loss
    total: int | None  # None if it is unknown
    run: str = ""  # as in `CurvatureResult`, likewise the next two
    at: str = "end"
    seed: int = 0


CurvatureSteps = Generator[CurvatureProgress, None, T]


def curvature_steps(
    model: nn.Module,
    loss: Loss,
    images: ImageBatches | tuple[Tensor, Tensor],
    *,
    k: int,
    dtype: torch.dtype | None,
    density: bool,
    landscape: bool,
) -> CurvatureSteps[CurvatureResult]:
    """Measure the curvature of a model on a sample, and yield the progress; the eigenpairs are computed only once.

    Args:
        model: Model, in the mode (train or eval) in which to measure it.
        loss: Mean loss of a batch.
        images: The sample.
        k: Number of eigenvalues.
        dtype: Precision; by default that of the parameters, or float64 for eigenvalues that require it.
        density: Whether to compute the spectral density and the trace as well.
        landscape: Whether to evaluate the loss along the first two eigenvectors as well.

    Raises:
        ValueError: If the model has fewer parameters than ``k``, or as `hessian` does.
    """
    expansion = expand(objective(model, loss, images, dtype=dtype))
    count = max(k, PLANE_VECTORS) if landscape else k
    pairs = yield from _report("eigenvalues", iter_eigenpairs(expansion.hessian, k=count))
    ratio = pairs.ratio if k > 1 else None
    optional: dict[str, Any] = (
        {} if ratio is None else {"ratio": np.array([ratio.value, ratio.low, ratio.high])}
    )
    if density:
        optional |= yield from _spectrum(expansion.hessian)
    if landscape:
        optional |= yield from _landscape(model, loss, images, pairs, dtype)
    return CurvatureResult(
        samples=len(images.y) if isinstance(images, ImageBatches) else len(images[1]),
        values=pairs.values[:k].numpy(),
        residuals=pairs.residuals[:k].numpy(),
        verdict=ratio.verdict if ratio else "unresolved",
        sign=ratio.sign if ratio else "",
        format=CURVATURE_FORMAT,
        probability=pairs.check.probability if pairs.check else math.nan,
        dtype=str(pairs.dtype).removeprefix("torch."),
        products=pairs.products,
        loss=expansion.loss,
        gradient_norm=float(expansion.gradient.cpu().double().norm()),
        converged=pairs.converged,
        operator=pairs.operator,
        **optional,
    )


def _report(part: str, steps: Iterator[Progress[Any] | T]) -> CurvatureSteps[T]:
    """Yield the progress of an estimate; return its result."""
    for step in steps:
        if not isinstance(step, Progress):
            return step
        yield CurvatureProgress(part, step.done, step.total)
    raise AssertionError("an estimate ended without a result")


def _spectrum(operator: Operator) -> CurvatureSteps[dict[str, Any]]:
    density = yield from _report("spectrum", iter_density(operator, DENSITY_PROBES, DENSITY_STEPS))
    total = yield from _report("trace", iter_trace(operator, TRACE_PRODUCTS))
    return {
        "trace": np.array([total.value, total.low, total.high]),
        "grid": density.grid.numpy(),
        "density": density.density.numpy(),
        "spread": density.spread.numpy(),
        "change": density.change,
    }


def _landscape(
    model: nn.Module,
    loss: Loss,
    images: ImageBatches | tuple[Tensor, Tensor],
    pairs: Eigenpairs,
    dtype: torch.dtype | None,
) -> CurvatureSteps[dict[str, Any]]:
    half = LINE_POINTS // 2
    axis = [MAX_DISTANCE * index / half for index in range(-half, half + 1)]  # 0 exactly in the middle
    first, two = pairs.vectors[:1], pairs.vectors[:PLANE_VECTORS]
    line = yield from _report("loss line", iter_landscape(model, loss, images, first, [axis], dtype=dtype))
    plane = yield from _report(
        "loss plane", iter_landscape(model, loss, images, two, [axis, axis], dtype=dtype)
    )
    return {
        "distances": line.distances[0].numpy(),
        "line": line.losses.numpy(),
        "line_model": line.quadratic.numpy(),
        "plane": plane.losses.numpy(),
        "plane_model": plane.quadratic.numpy(),
    }
