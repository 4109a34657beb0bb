"""The curvature where a run ended: eigenvalues, spectrum, trace, and the loss around it."""

import dataclasses
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from optstudy.curvature import (
    Eigenpairs,
    loss_landscape,
    spectral_density,
    top_eigenpairs,
    trace,
)
from optstudy.curvature import hessian as hessian_of
from optstudy.data import load, load_parts
from optstudy.models import Loss, build_model, load_loss
from optstudy.training import Images, Plan, RunState, numerics, sample_images

Floats = NDArray[np.float64]

POINTS = 41  # along each direction, as in the paper
REACH = 1.0  # distances go from minus this to this, as in the paper
TRACE_PRODUCTS = 60
PROBES, STEPS = 5, 40  # of the spectral density
ANALYSIS_PRODUCTS = PROBES * STEPS + TRACE_PRODUCTS + 60  # all in all, roughly
LANDSCAPE_POINTS = POINTS * (POINTS + 1)


@dataclass(frozen=True)
class Analysis:
    """What was measured at fixed weights on a fixed sample; what was not is nan, or an empty array."""

    samples: int
    values: Floats  # (2,) eigenvalues of largest magnitude, signed
    residuals: Floats  # (2,)
    ratio: Floats  # (3,) value, low, high
    verdict: str
    probability: float  # of a missed eigenvalue, at most
    dtype: str  # precision that the eigenvalues needed
    products: int  # spent on the eigenvalues
    trace: Floats  # (3,) value, low, high
    distances: Floats  # (41,) of line and plane
    line: Floats  # (41,) loss along the first eigenvector
    line_model: Floats  # (41,) its quadratic model
    plane: Floats  # (41, 41) loss over the first two
    plane_model: Floats  # (41, 41)
    grid: Floats  # (p,) eigenvalues
    density: Floats  # (p,)
    spread: Floats  # (p,) standard error of the density
    change: float  # of the density when the Lanczos steps were doubled

    @property
    def loss_rise(self) -> float:
        """Mean rise of the loss at distance 1 on both sides along the first eigenvector; nan without a line."""
        if not len(self.line):
            return math.nan
        ends = (self.line[0] + self.line[-1]) / 2
        return float(ends - self.line[len(self.line) // 2])

    def to_bytes(self) -> bytes:
        """Serialise as npz without pickles; `from_bytes` gives back the same."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Analysis":
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            values: dict[str, Any] = {name: arrays[name] for name in arrays.files}
        return cls(**{name: value if value.ndim else value.item() for name, value in values.items()})


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
