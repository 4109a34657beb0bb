"""The curvature of a model on a sample: eigenvalues, spectrum, trace, and the loss around its weights."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optstudy.curvature import (
    Eigenpairs,
    Operator,
    expand,
    loss_landscape,
    objective,
    spectral_density,
    top_eigenpairs,
    trace,
)
from optstudy.records.curvature import CurvatureResult
from optstudy.records.plan import Plan
from optstudy.training.numerics import numerics
from optstudy.training.probes import ImageBatches, sample_images
from optstudy.training.state import RunState
from optstudy.workloads.datasets import load
from optstudy.workloads.models import Loss, build_model, load_loss
from optstudy.workloads.splits import load_split

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
    """Measure the curvature of a model on a sample; the eigenpairs are computed only once.

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
    pairs = top_eigenpairs(expansion.hessian, k=max(k, PLANE_VECTORS) if landscape else k)
    ratio = pairs.ratio if k > 1 else None
    optional: dict[str, Any] = (
        {} if ratio is None else {"ratio": np.array([ratio.value, ratio.low, ratio.high])}
    )
    if density:
        optional |= _spectrum(expansion.hessian)
    if landscape:
        optional |= _landscape(model, loss, images, pairs, dtype)
    return CurvatureResult(
        samples=len(images.y) if isinstance(images, ImageBatches) else len(images[1]),
        values=pairs.values[:k].numpy(),
        residuals=pairs.residuals[:k].numpy(),
        verdict=ratio.verdict if ratio else "unresolved",
        probability=pairs.check.probability if pairs.check else math.nan,
        dtype=str(pairs.dtype).removeprefix("torch."),
        products=pairs.products,
        loss=expansion.loss,
        gradient_norm=float(expansion.gradient.cpu().double().norm()),
        converged=pairs.converged,
        operator=pairs.operator,
        **optional,
    )


def _spectrum(operator: Operator) -> dict[str, Any]:
    density = spectral_density(operator, DENSITY_PROBES, DENSITY_STEPS)
    total = trace(operator, TRACE_PRODUCTS)
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
) -> dict[str, Any]:
    half = LINE_POINTS // 2
    axis = [MAX_DISTANCE * index / half for index in range(-half, half + 1)]  # 0 exactly in the middle
    line = loss_landscape(model, loss, images, pairs.vectors[:1], [axis], dtype=dtype)
    plane = loss_landscape(model, loss, images, pairs.vectors[:PLANE_VECTORS], [axis, axis], dtype=dtype)
    return {
        "distances": line.distances[0].numpy(),
        "line": line.losses.numpy(),
        "line_model": line.quadratic.numpy(),
        "plane": plane.losses.numpy(),
        "plane_model": plane.quadratic.numpy(),
    }
