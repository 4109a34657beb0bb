"""What a run left behind, as numbers that can be made again."""

import dataclasses
import importlib.metadata
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optstudy.analysis import Analysis
from optstudy.eigentrace import EigenTrace
from optstudy.errors import OptstudyError, UsageError
from optstudy.evidence import RunEvidence, read_run
from optstudy.finding import find_runs, run_name
from optstudy.nearest import nearest
from optstudy.report import Archive
from optstudy.reproduction.series import Series
from optstudy.rungs import run_key
from optstudy.tracking import Ending, FinalRun, FinalRuns, Tracking
from optstudy.training import EpochRecord, Plan

EPOCHS = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "gradient_norm": "gradient_norm",
    "test/loss": "heldout_loss",
    "test/accuracy": "heldout_accuracy",
    "train/exact_loss": "exact_loss",
    "train/exact_accuracy": "exact_accuracy",
    "full_gradient_norm": "full_gradient_norm",
    "gradient_work": "gradient_work",
}
ENDING = ("lambda_1", "lambda_2", "ratio", "ratio_low", "ratio_high", "trace", "loss_rise")


@dataclass(frozen=True)
class Recorded:
    """A run as it was recorded."""

    name: str  # with its study's
    plan: Plan
    facts: Mapping[str, str]  # versions, machine, commit, checksum of the data
    sources: Mapping[str, str]  # SHA-256 of the user's files
    series: Mapping[str, Series]  # by metric
    doubts: tuple[str, ...]  # where the record contradicts itself

    def on(self, device: str) -> "Recorded":
        """The same run, to be computed on another device."""
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, device=device))


def recorded_in_mlflow(tracking: Tracking, target: str) -> list[Recorded]:
    """Read the final runs that a name means, with the weights where they ended.

    Args:
        tracking: Where they are.
        target: A study, STUDY/OPTIMIZER, STUDY/RUN, a run ID or its unique beginning.

    Raises:
        UsageError: If the name means none.
        OptstudyError: If a run's files cannot be read.
    """
    found, runs = [], find_runs(tracking, target)
    predictions = tracking.predictions(FinalRuns(tuple(runs), {}))
    for run in runs:
        evidence = read_run(tracking, run, predictions.get(run.run_id))
        weights = tracking.file_of(run, "weights.pt")
        series = of_metrics(run) | of_epochs(evidence.epochs) | of_trace(evidence.trace)
        if evidence.analysis is not None:
            series |= of_curves(evidence.analysis)
        if evidence.predictions is not None:
            series["predictions"] = Series(evidence.predictions.predicted)
        if weights is not None:
            series |= of_weights(_state_dict(weights, run))
        found.append(_recorded(evidence, series))
    return found


def recorded_in_archive(archive: Archive, target: str) -> list[Recorded]:
    """Read the runs of a report's files that a name means; they hold no weights, and of the curvature its ending.

    Raises:
        UsageError: If the name means none.
    """
    named = {f"{run.study}/{run_name(run)}": run for run in archive.final.runs}
    chosen = [
        run
        for name, run in named.items()
        if target in (name, run.study) or name.startswith(f"{target}/") or run.run_id.startswith(target)
    ]
    if not chosen:
        studies = sorted({run.study for run in archive.final.runs})
        raise UsageError(
            f"no run {target!r} among these{nearest(target, named)}; there are those of {', '.join(studies)}"
        )
    return [_recorded(*_archived(archive, run)) for run in chosen]


def _archived(archive: Archive, run: FinalRun) -> tuple[RunEvidence, dict[str, Series]]:
    plan = archive.plans.get(run.run_id)
    predictions = archive.predictions.get(run.run_id)
    evidence = RunEvidence(
        run,
        None if plan is None else Plan.from_dict(plan),
        archive.epochs.get(run.run_id, ()),
        predictions,
        None,
        None,
    )
    series = of_metrics(run) | of_epochs(evidence.epochs)
    if predictions is not None:
        series["predictions"] = Series(predictions.predicted)
    return evidence, series


def _recorded(evidence: RunEvidence, series: Mapping[str, Series]) -> Recorded:
    run, plan = evidence.run, evidence.plan
    name = f"{run.study}/{run_name(run)}"
    if plan is None:
        raise OptstudyError(f"{name} has no plan.json, and cannot be made again; train it again")
    return Recorded(name, plan, run.facts, run.sources or {}, series, tuple(_doubts(run, plan)))


def _doubts(run: FinalRun, plan: Plan) -> list[str]:
    """Find out whether a run's plan is the one that it was made by."""
    found = []
    if run.seed != plan.seed:
        found.append(f"its plan has seed {plan.seed}, the run itself seed {run.seed}")
    same_torch = run.facts.get("torch") == importlib.metadata.version("torch")  # another one has other keys
    known = bool(run.key) and same_torch
    if known and run.sources is not None and run.key != run_key(plan, torch.__version__, run.sources):
        found.append("its plan or its source files are not those that its key was made of")
    return found


def of_epochs(records: Sequence[EpochRecord]) -> dict[str, Series]:
    """Return what epochs recorded, clock readings apart."""
    found = {}
    for metric, field in EPOCHS.items():
        kept = [(one.epoch, getattr(one, field)) for one in records if getattr(one, field) is not None]
        if kept:
            found[metric] = Series(np.array([value for _, value in kept]), tuple(e for e, _ in kept), "epoch")
    return found


def of_metrics(run: FinalRun) -> dict[str, Series]:
    """Return what MLflow shows of where a run ended."""
    return _ending(run.train_accuracy, run.test_accuracy, run.ending)


def of_ending(last: EpochRecord, analysis: Analysis | None) -> dict[str, Series]:
    """Return the same of a run that was made again."""
    exact, heldout = (
        round(round(100 * (x or 0.0), 9) / 100, 12) for x in (last.exact_accuracy, last.heldout_accuracy)
    )
    if analysis is None:
        return _ending(exact, heldout, None)
    values = (*analysis.values[:2], *analysis.ratio, analysis.trace[0], analysis.loss_rise)
    numbers = {n: float(v) if math.isfinite(v) else math.nan for n, v in zip(ENDING, values, strict=True)}
    return _ending(exact, heldout, Ending(**numbers, verdict=analysis.verdict))


def _ending(train_accuracy: float, test_accuracy: float, ending: Ending | None) -> dict[str, Series]:
    found: dict[str, Any] = {"train_accuracy": train_accuracy, "test_accuracy": test_accuracy}
    if ending is not None:
        found |= dataclasses.asdict(ending)
    return {f"final/{name}": Series(np.array(value)) for name, value in found.items()}


def of_trace(trace: EigenTrace | None) -> dict[str, Series]:
    """Return the eigenvalues along the last steps."""
    if trace is None:
        return {}
    columns: dict[str, Any] = {
        "lambda_1": trace.values[:, 0],
        "lambda_2": trace.values[:, 1],
        "ratio": trace.ratio,
        "residual": trace.residuals[:, 0],
        "verdict": trace.verdict,
    }
    steps = tuple(trace.step.tolist())
    found = {f"eigen/{name}": Series(values, steps, "step") for name, values in columns.items()}
    if len(trace.preconditioned):
        at = tuple(trace.preconditioned_step.tolist())
        found["eigen/preconditioned_lambda_1"] = Series(trace.preconditioned, at, "step")
    return found


def of_curves(analysis: Analysis) -> dict[str, Series]:
    """Return the loss along the first eigenvectors where a run ended, and the density of its eigenvalues."""
    return {f"final/{name}": Series(getattr(analysis, name)) for name in ("line", "plane", "density")}


def of_weights(weights: Mapping[str, Tensor]) -> dict[str, Series]:
    """Return a model's parameters and buffers."""
    return {f"weights/{name}": Series(tensor.cpu().numpy()) for name, tensor in weights.items()}


def _state_dict(data: bytes, run: FinalRun) -> dict[str, Tensor]:
    try:
        loaded: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:  # torch's reader raises errors of many kinds at bytes that are none
        raise OptstudyError(f"weights.pt of run {run.run_id} is damaged ({type(error).__name__})") from error
    return loaded
