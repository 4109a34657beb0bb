"""What a final run leaves behind: its figures, the data behind them, and the metrics of where it ended."""

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from optstudy.curvature import Stability, stability
from optstudy.optimizers import build_optimizer
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace, eigen_trace
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, Observation
from optstudy.report import figures
from optstudy.workloads import load


@dataclass(frozen=True)
class Ended:
    """A final run that has ended."""

    title: str
    optimizer: str
    plan: Plan
    epochs: tuple[EpochRecord, ...]
    observations: tuple[Observation, ...]
    predicted: tuple[int, ...]  # classes of the test images
    curvature: CurvatureResult | None  # of where it ended


@dataclass(frozen=True)
class Drawn:
    """What is kept of a run, for its root."""

    files: dict[str, bytes]  # by name
    failed: dict[str, str]  # figures that could not be drawn, and why


def draw(ended: Ended) -> Drawn:
    """Draw a run's figures and write the data behind them; a worker's task."""
    trace = eigen_trace(ended.observations)
    files, failed = _data(ended, trace), {}
    for name, make in _figures(ended, trace).items():
        try:
            files[name] = figures.png(make())
        except Exception as error:  # noqa: BLE001  # no figure is worth the run, whose numbers are sound
            failed[name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return Drawn(files, failed)


def stability_of(plan: Plan) -> Stability | None:
    """Return where the steps of a plan's optimizer would overshoot; None where that is not known."""
    method = plan.method
    seed = plan.seed if method.seeded else None
    nothing = [torch.zeros(1, requires_grad=True)]
    return stability(build_optimizer(method.optimizer, method.arguments, nothing, seed))


def _data(ended: Ended, trace: EigenTrace | None) -> dict[str, bytes]:
    curvature = ended.curvature
    dataset = load(ended.plan.dataset)
    return {
        "epochs.json": json.dumps([asdict(record) for record in ended.epochs], indent=1).encode(),
        "predictions.npz": _npz(
            labels=dataset.test_y.numpy(),
            predicted=np.array(ended.predicted),
            classes=np.array(dataset.classes, dtype=np.str_),
        ),
        "plan.json": json.dumps(asdict(ended.plan), indent=1).encode(),
        **({} if trace is None else {"eigen.npz": trace.to_bytes()}),
        **({} if curvature is None else {"analysis.npz": curvature.to_bytes()}),
    }


def _figures(ended: Ended, trace: EigenTrace | None) -> dict[str, Callable[[], figures.Figure]]:
    title, optimizer, plan, curvature = ended.title, ended.optimizer, ended.plan, ended.curvature
    dataset, predicted = load(plan.dataset), np.array(ended.predicted)
    found: dict[str, Callable[[], figures.Figure]] = {
        "gradient_norm.png": lambda: figures.gradient_norm(ended.epochs, title, optimizer),
        "confusion.png": lambda: figures.confusion(dataset.test_y.numpy(), predicted, dataset.classes, title),
    }
    if trace is not None:
        found["eigen_ratio.png"] = lambda: figures.eigen_ratio(trace, title, optimizer, stability_of(plan))
    if curvature is not None:
        found["landscape_1d.png"] = lambda: figures.landscape_line(curvature, title, optimizer)
        found["landscape_2d.png"] = lambda: figures.landscape_plane(curvature, title)
        found["spectrum.png"] = lambda: figures.spectrum(curvature, title, optimizer)
    return found


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
