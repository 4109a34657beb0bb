"""The metrics of a run that `reproduce` compares, as read from MLflow or from a report's files."""

import dataclasses
import importlib.metadata
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optstudy.errors import OptstudyError, UsageError, nearest
from optstudy.posthoc.find_runs import find_runs, matching_runs
from optstudy.posthoc.reproduce.compare import Series
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.metrics import END, EPOCH, FINAL
from optstudy.records.plan import Plan, has_current_format, run_key
from optstudy.records.provenance import Provenance
from optstudy.records.run import EpochRecord, FinalRun
from optstudy.tracking import Tracking
from optstudy.tracking.evidence import read_predictions, read_run

TRACE = ("ratio", "low", "high", "verdict", "verified", "probability", "angle", "gradient_share")
CURVES = ("line", "line_model", "plane", "plane_model", "grid", "density", "spread", "change")


@dataclass(frozen=True)
class RecordedRun:
    """A run as it was recorded."""

    name: str  # with its study's
    plan: Plan
    provenance: Provenance
    series: Mapping[str, Series]  # by metric
    doubts: tuple[str, ...]  # where the record contradicts itself

    def on(self, device: str) -> "RecordedRun":
        """The same run, to be computed on another device."""
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, device=device))


def recorded_in_mlflow(tracking: Tracking, target: str) -> list[RecordedRun]:
    """Read the final runs that a name means, with the weights where they ended.

    Args:
        tracking: Where they are.
        target: A study, STUDY/OPTIMIZER, STUDY/RUN, a run ID or its unique beginning.

    Raises:
        UsageError: If the name means none.
        OptstudyError: If a run's files cannot be read.
    """
    found, runs = [], find_runs(tracking, target)
    for run in runs:
        evidence = read_run(tracking, read_predictions(tracking, run))
        weights = tracking.find_file(run, "weights.pt")
        series = {} if weights is None else of_weights(_state_dict(weights, run))
        found.append(_recorded(evidence, series, _shown_otherwise(tracking, evidence)))
    return found


def recorded_in_archive(archive: Evidence, target: str) -> list[RecordedRun]:
    """Read the runs of a report's files that a name means; these hold no weights, and no spectra or landscapes.

    Args:
        archive: What the files hold.
        target: As for `recorded_in_mlflow`.

    Raises:
        UsageError: If the name means none, or the beginning of an ID several.
    """
    runs = [one.run for one in archive.runs]
    found = {run.run_id for run in matching_runs(runs, target)} if target else set()
    if not found:
        names = [str(run.id) for run in runs]
        studies = sorted({run.study for run in runs})
        raise UsageError(
            f"no run {target!r} among these{nearest(target, names)}; there are those of {', '.join(studies)}"
        )
    return [_recorded(one, {}, []) for one in archive.runs if one.run.run_id in found]


def _recorded(evidence: RunEvidence, weights: Mapping[str, Series], doubts: Sequence[str]) -> RecordedRun:
    run, plan = evidence.run, evidence.plan
    name = str(run.id)
    if plan is None:
        raise OptstudyError(f"{name} has no plan.json, and cannot be made again; train it again")
    series = of_run(vars(run))
    series |= of_epochs(evidence.epochs) | of_trace(evidence.trace) | of_curves(evidence.curvature)
    if evidence.predictions is not None:
        series["predictions"] = Series(evidence.predictions.predicted)
    return RecordedRun(name, plan, run.provenance, series | dict(weights), (*_doubts(run, plan), *doubts))


def _doubts(run: FinalRun, plan: Plan) -> list[str]:
    """Find out whether a run's plan is the one that it was made by."""
    found = []
    if run.seed != plan.seed:
        found.append(f"its plan has seed {plan.seed}, the run itself seed {run.seed}")
    planned = {str(value) for value in _leaves(plan.method.arguments)}
    found += [
        f"its parameter {name} is {value}, which its plan does not have"
        for name, value in run.params.items()
        if value not in planned
    ]
    # Other versions may make other keys of the same plan.
    there = run.provenance
    same = all(there.versions.get(name) == importlib.metadata.version(name) for name in ("torch", "optstudy"))
    known = same and has_current_format(run.key) and there.sources is not None
    if known and run.key != run_key(plan, torch.__version__, there.sources or {}):
        found.append("its plan or its source files are not those that its key was made of")
    return found


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the single values of nested arguments, such as both of Adam's betas."""
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        yield value
        return
    for part in value:
        yield from _leaves(part)


def _shown_otherwise(tracking: Tracking, evidence: RunEvidence) -> list[str]:
    """Name the metrics whose charts in MLflow show other numbers than the run's own file."""
    found = []
    for metric, series in of_epochs(evidence.epochs).items():
        shown = tracking.history(evidence.run.run_id, metric)
        if shown != list(zip(series.at, series.values.tolist(), strict=True)):
            found.append(f"MLflow's {metric} is not that of its epochs.json")
    return found


def of_run(run: Mapping[str, Any]) -> dict[str, Series]:
    """Return the reproducible numbers of where a run ended, from the fields of a FinalRun; accuracies are fractions."""
    found = {one.short_name: one.lookup(run) for one in FINAL if one.reproducible}
    if not found["steps"]:
        del found["steps"]  # 0 where they are not known
    found["verdict"] = getattr(run.get("curvature"), "verdict", None)
    return {f"{END}{name}": Series(np.array(value)) for name, value in found.items() if value is not None}


def of_epochs(records: Sequence[EpochRecord]) -> dict[str, Series]:
    """Return what epochs recorded, clock readings apart."""
    found = {}
    for metric in EPOCH:
        values = [(one.epoch, getattr(one, metric.field)) for one in records]
        kept = [(epoch, value) for epoch, value in values if value is not None]
        if kept and metric.reproducible:
            epochs, numbers = zip(*kept, strict=True)
            found[metric.name.format(heldout="test")] = Series(np.array(numbers), epochs, "epoch")
    return found


def of_trace(trace: EigenTrace | None) -> dict[str, Series]:
    """Return what the tracker saw along the last steps."""
    if trace is None:
        return {}
    columns = {name: getattr(trace, name) for name in TRACE}
    for place in (0, 1):
        columns[f"lambda_{place + 1}"] = trace.values[:, place]
        columns[f"residual_{place + 1}"] = trace.residuals[:, place]
    steps = tuple(trace.step.tolist())
    found = {f"eigen/{name}": Series(values, steps, "step") for name, values in columns.items()}
    if len(trace.preconditioned):
        at = tuple(trace.preconditioned_step.tolist())
        found["eigen/preconditioned_lambda_1"] = Series(trace.preconditioned, at, "step")
    return found


def of_curves(curvature: CurvatureResult | None) -> dict[str, Series]:
    """Return the loss around where a run ended, and the density of the eigenvalues there."""
    if curvature is None:
        return {}
    return {f"curves/{name}": Series(np.asarray(getattr(curvature, name))) for name in CURVES}


def of_weights(weights: Mapping[str, Tensor]) -> dict[str, Series]:
    """Return a model's parameters and buffers; numpy has no bfloat16, which float32 holds exactly."""
    return {
        f"weights/{name}": Series((one.float() if one.dtype == torch.bfloat16 else one).cpu().numpy())
        for name, one in weights.items()
    }


def _state_dict(data: bytes, run: FinalRun) -> dict[str, Tensor]:
    try:
        loaded: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:  # torch's reader raises errors of many kinds at bytes that are none
        raise OptstudyError(f"weights.pt of run {run.run_id} is damaged ({type(error).__name__})") from error
    return loaded
