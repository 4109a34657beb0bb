"""The artifacts of a final run: the figures and data files that MLflow stores with it."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import torch

from optstudy.curvature import Stability, stability
from optstudy.errors import one_line
from optstudy.optimizers import build_optimizer
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace, eigen_trace
from optstudy.records.forms import to_form
from optstudy.records.look import Look
from optstudy.records.plan import Plan
from optstudy.records.run import Predictions, Rung
from optstudy.report import figures
from optstudy.workloads.datasets import load


def draw_run(
    title: str, look: Look, plan: Plan, rungs: Sequence[Rung], curvature: CurvatureResult | None
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Draw a run's figures and serialize their data; a worker's task.

    Returns:
        Files by name, and the error message of each figure that could not be drawn.
    """
    trace = eigen_trace([observation for rung in rungs for observation in rung.observations])
    files, failed = _data(plan, rungs, trace, curvature), {}
    for name, make in _figures(title, look, plan, rungs, trace, curvature).items():
        try:
            files[name] = figures.png(make())
        except Exception as error:  # noqa: BLE001  # a figure that fails must not discard the run
            failed[name] = one_line(error)
    return files, failed


def stability_threshold(plan: Plan) -> Stability | None:
    """Return the stability threshold of a plan's optimizer; None if it is unknown."""
    method = plan.method
    seed = plan.seed if method.seeded else None
    parameters = [torch.zeros(1, requires_grad=True)]
    return stability(build_optimizer(method.optimizer, method.arguments, parameters, seed))


def _data(
    plan: Plan, rungs: Sequence[Rung], trace: EigenTrace | None, curvature: CurvatureResult | None
) -> dict[str, bytes]:
    dataset = load(plan.dataset)
    epochs = [to_form(record) for rung in rungs for record in rung.epochs]
    return {
        "epochs.json": json.dumps(epochs, indent=1).encode(),
        "predictions.npz": Predictions(
            dataset.test_y.numpy(), np.array(rungs[-1].predicted), dataset.classes
        ).to_bytes(),
        "plan.json": json.dumps(to_form(plan), indent=1).encode(),
        **({} if trace is None else {"eigen.npz": trace.to_bytes()}),
        **({} if curvature is None else {"analysis.npz": curvature.to_bytes()}),
    }


def _figures(
    title: str,
    look: Look,
    plan: Plan,
    rungs: Sequence[Rung],
    trace: EigenTrace | None,
    curvature: CurvatureResult | None,
) -> dict[str, Callable[[], figures.Figure]]:
    dataset, predicted = load(plan.dataset), np.array(rungs[-1].predicted)
    epochs = [record for rung in rungs for record in rung.epochs]
    makers: dict[str, Callable[[], figures.Figure]] = {
        "gradient_norm.png": lambda: figures.gradient_norm(epochs, title, look),
        "confusion.png": lambda: figures.confusion(dataset.test_y.numpy(), predicted, dataset.classes, title),
    }
    if trace is not None:
        makers["eigen_ratio.png"] = lambda: figures.eigen_ratio(trace, title, look, stability_threshold(plan))
    if curvature is not None:
        makers["landscape_1d.png"] = lambda: figures.landscape_line(curvature, title, look)
        makers["landscape_2d.png"] = lambda: figures.landscape_plane(curvature, title)
        makers["spectrum.png"] = lambda: figures.spectrum(curvature, title, look)
    return makers
