"""The curvature where a run ended: eigenvalues, spectrum, trace, and the loss around it."""

import dataclasses
import math

import numpy as np
import torch
from torch import nn

from optstudy.curvature import Eigenpairs, loss_landscape, spectral_density, top_eigenpairs, trace
from optstudy.curvature import hessian as hessian_of
from optstudy.records.curvature import Analysis
from optstudy.records.plan import Plan
from optstudy.training.numerics import numerics
from optstudy.training.probes import Images, sample_images
from optstudy.training.state import RunState
from optstudy.workloads import load, load_parts
from optstudy.workloads.models import Loss, build_model, load_loss

POINTS = 41  # along each direction, as in the paper
REACH = 1.0  # distances go from minus this to this, as in the paper
TRACE_PRODUCTS = 60
PROBES, STEPS = 5, 40  # of the spectral density
ANALYSIS_PRODUCTS = PROBES * STEPS + TRACE_PRODUCTS + 60  # all in all, roughly
LANDSCAPE_POINTS = POINTS * (POINTS + 1)


def analyse_run(plan: Plan, state: bytes) -> bytes:
    """Measure the curvature where a run stands; a worker's task.

    Returns:
        An `Analysis` as bytes.
    """
    assert plan.trace is not None
    with numerics(plan):
        parts = load_parts(plan.dataset, plan.split)
        images = sample_images(parts, plan.trace.samples, plan.trace.seed, plan.device)
        model = build_model(plan.model, load(plan.dataset)).to(plan.device)
        model.load_state_dict(RunState.from_bytes(state).model)
        return analyse(model.eval(), load_loss(plan.loss), images).to_bytes()


def analyse(
    model: nn.Module,
    loss: Loss,
    images: Images | tuple[torch.Tensor, torch.Tensor],
    *,
    spectrum: bool = True,
    landscape: bool = True,
    dtype: torch.dtype | None = None,
) -> Analysis:
    """Measure a model on a sample.

    Args:
        model: In the mode that is meant.
        loss: Mean loss of a batch.
        images: The sample.
        spectrum: Also the density of the eigenvalues and the trace.
        landscape: Also the loss along the first eigenvector, and over the plane of the first two.
        dtype: Precision; by default the parameters' own, and float64 for the eigenvalues where they need it.
    """
    operator = hessian_of(model, loss, images, dtype=dtype)
    pairs = top_eigenpairs(operator)
    count = len(images.y) if isinstance(images, Images) else len(images[1])
    found = _nothing(count, pairs)
    if spectrum:
        density, total = spectral_density(operator, PROBES, STEPS), trace(operator, TRACE_PRODUCTS)
        found = dataclasses.replace(
            found,
            trace=np.array([total.value, total.low, total.high]),
            grid=density.grid.numpy(),
            density=density.density.numpy(),
            spread=density.spread.numpy(),
            change=density.change,
        )
    if landscape:
        half = POINTS // 2
        axis = [REACH * place / half for place in range(-half, half + 1)]  # 0 exactly in the middle
        line = loss_landscape(model, loss, images, pairs.vectors[:1], [axis], dtype=dtype)
        plane = loss_landscape(model, loss, images, pairs.vectors, [axis, axis], dtype=dtype)
        found = dataclasses.replace(
            found,
            distances=line.distances[0].numpy(),
            line=line.losses.numpy(),
            line_model=line.quadratic.numpy(),
            plane=plane.losses.numpy(),
            plane_model=plane.quadratic.numpy(),
        )
    return found


def _nothing(count: int, pairs: Eigenpairs) -> Analysis:
    """Return the eigenvalues, and the rest as not measured."""
    ratio, none = pairs.ratio, np.zeros(0)
    return Analysis(
        samples=count,
        values=pairs.values.numpy(),
        residuals=pairs.residuals.numpy(),
        ratio=np.array([ratio.value, ratio.low, ratio.high]),
        verdict=ratio.verdict,
        probability=pairs.check.probability if pairs.check else math.nan,
        dtype=str(pairs.dtype).removeprefix("torch."),
        products=pairs.products,
        trace=np.full(3, math.nan),
        distances=none,
        line=none,
        line_model=none,
        plane=np.zeros((0, 0)),
        plane_model=np.zeros((0, 0)),
        grid=none,
        density=none,
        spread=none,
        change=math.nan,
    )
