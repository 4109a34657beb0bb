"""What a final run leaves behind: its figures, the data behind them, and the metrics of where it ended."""

import io
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from optstudy import figures
from optstudy.analysis import Analysis
from optstudy.curvature import Stability, stability
from optstudy.data import load
from optstudy.eigentrace import EigenTrace, eigen_trace
from optstudy.optimizers import build_optimizer
from optstudy.training import EpochRecord, Observation, Plan


@dataclass(frozen=True)
class Ended:
    """A final run that has ended."""

    title: str
    optimizer: str
    plan: Plan
    epochs: tuple[EpochRecord, ...]
    observations: tuple[Observation, ...]
    predicted: tuple[int, ...]  # classes of the test images
    analysis: Analysis | None  # of where it ended


def draw(ended: Ended) -> dict[str, bytes]:
    """Draw a run's figures and write the data behind them; a worker's task.

    Returns:
        Files by name, for the root of the run.
    """
    dataset, title, optimizer = load(ended.plan.dataset), ended.title, ended.optimizer
    labels, predicted = dataset.test_y.numpy(), np.array(ended.predicted)
    files = {
        "gradient_norm.png": figures.png(figures.gradient_norm(ended.epochs, title, optimizer)),
        "confusion.png": figures.png(figures.confusion(labels, predicted, dataset.classes, title)),
        "epochs.json": json.dumps([asdict(record) for record in ended.epochs], indent=1).encode(),
        "predictions.npz": _npz(labels=labels, predicted=predicted),
        "plan.json": json.dumps(asdict(ended.plan), indent=1).encode(),
    }
    trace = eigen_trace(ended.observations)
    if trace is not None:
        files |= _trace_files(trace, ended)
    if ended.analysis is not None:
        files |= _analysis_files(ended.analysis, title, optimizer)
    return files


def final_metrics(analysis: Analysis) -> dict[str, float]:
    """Return the metrics of where a run ended, those that are finite."""
    found = {
        "final/lambda_1": analysis.values[0],
        "final/lambda_2": analysis.values[1],
        "final/ratio": analysis.ratio[0],
        "final/ratio_low": analysis.ratio[1],
        "final/ratio_high": analysis.ratio[2],
        "final/trace": analysis.trace[0],
        "final/loss_rise": analysis.loss_rise,
    }
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def stability_of(plan: Plan) -> Stability | None:
    """Return where the steps of a plan's optimizer would overshoot; None where that is not known."""
    method = plan.method
    seed = plan.seed if method.seeded else None
    nothing = [torch.zeros(1, requires_grad=True)]
    return stability(build_optimizer(method.optimizer, method.arguments, nothing, seed))


def _trace_files(trace: EigenTrace, ended: Ended) -> dict[str, bytes]:
    drawn = figures.eigen_ratio(trace, ended.title, ended.optimizer, stability_of(ended.plan))
    return {"eigen_ratio.png": figures.png(drawn), "eigen.npz": trace.to_bytes()}


def _analysis_files(analysis: Analysis, title: str, optimizer: str) -> dict[str, bytes]:
    return {
        "landscape_1d.png": figures.png(figures.landscape_line(analysis, title, optimizer)),
        "landscape_2d.png": figures.png(figures.landscape_plane(analysis, title)),
        "spectrum.png": figures.png(figures.spectrum(analysis, title, optimizer)),
        "analysis.npz": analysis.to_bytes(),
    }


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
