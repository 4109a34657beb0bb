"""The recorded metrics that `reproduce` compares, from MLflow or from a report's files."""

import dataclasses
import importlib.metadata
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optstudy.errors import OptstudyError, UsageError, suggestion
from optstudy.posthoc.checkpoints import COMPLEX, is_dense
from optstudy.posthoc.find_runs import find_runs, matching_runs
from optstudy.posthoc.reproduce.compare import Series
from optstudy.posthoc.trust import ForeignCode, code_in_mlflow, foreign_code
from optstudy.records.curvature import NO_SIGN, CurvatureResult, recorded_sign
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.metrics import EPOCH, FINAL, FINAL_PREFIX
from optstudy.records.plan import Plan, has_current_format, is_corrected, run_key
from optstudy.records.provenance import Provenance
from optstudy.records.run import EpochRecord, FinalRun
from optstudy.tracking import Tracking
from optstudy.tracking.evidence import read_predictions, read_run

_REMEDY = "delete the run in MLflow, and the command that trained it logs it again"
TRACE = ("ratio", "low", "high", "verdict", "sign", "verified", "probability", "angle", "gradient_share")
CURVES = ("line", "line_model", "plane", "plane_model", "grid", "density", "spread", "change")


@dataclass(frozen=True)
class RecordedRun:
    """A recorded run."""

    name: str  # STUDY/RUN
    plan: Plan
    provenance: Provenance
    series: Mapping[str, Series]  # by metric
    contradictions: tuple[str, ...]  # in the record
    code: ForeignCode  # named by the plan
    has_checksums: bool = True  # false if it was written before there were checksums

    def on(self, device: str) -> "RecordedRun":
        """Return the run on another device."""
        return dataclasses.replace(self, plan=dataclasses.replace(self.plan, device=device))


def recorded_in_mlflow(tracking: Tracking, target: str, workspace: Path = Path()) -> list[RecordedRun]:
    """Read the final runs that match ``target`` from MLflow, with their final weights; see `find_runs`.

    On a server, code that a study of the workspace with the same name was begun with is known.

    Raises:
        UsageError: If no run matches.
        OptstudyError: If a run's files cannot be read.
    """
    recorded = []
    for run in find_runs(tracking, target):
        evidence = read_run(tracking, read_predictions(tracking, run))
        data = tracking.find_file(run, "weights.pt")
        weights = {} if data is None else weight_series(_state_dict(data, run))
        code = partial(code_in_mlflow, tracking, run, workspace=workspace)
        one = _recorded(evidence, weights, _chart_contradictions(tracking, evidence), code)
        recorded.append(dataclasses.replace(one, has_checksums=run.checksums is not None))
    return recorded


def recorded_in_archive(archive: Evidence, target: str) -> list[RecordedRun]:
    """Select the runs that match ``target`` from a report's files, which hold no weights, spectra or landscapes.

    Raises:
        UsageError: If no run matches, or a prefix matches several IDs.
    """
    runs = [run_evidence.run for run_evidence in archive.runs]
    matching = {run.run_id for run in matching_runs(runs, target)} if target else set()
    if not matching:
        names = [str(run.id) for run in runs]
        studies = sorted({run.study for run in runs})
        raise UsageError(
            f"no run {target!r} in the report{suggestion(target, names)}; its studies are {', '.join(studies)}"
        )
    recorded = [
        _recorded(run_evidence, {}, [], partial(foreign_code, run_evidence.run))
        for run_evidence in archive.runs
        if run_evidence.run.run_id in matching
    ]
    return [dataclasses.replace(run, has_checksums=not archive.unchecked) for run in recorded]


def _recorded(
    evidence: RunEvidence,
    weights: dict[str, Series],
    contradictions: list[str],
    code: Callable[[Plan], ForeignCode],
) -> RecordedRun:
    run, plan = evidence.run, evidence.plan
    name = str(run.id)
    if plan is None:
        raise OptstudyError(f"{name} has no plan.json, so it cannot be rerun; retrain it")
    if evidence.epochs and run.outcome == "completed" and plan.epochs != evidence.epochs[-1].epoch:
        raise OptstudyError(
            f"{name}: its plan has {plan.epochs} epochs and its record {evidence.epochs[-1].epoch},"
            " so it is the plan of another run; restore plan.json, or the report"
        )
    series = final_series(vars(run)) | epoch_series(evidence.epochs)
    series |= trace_series(evidence.trace) | curve_series(evidence.curvature)
    if evidence.predictions is not None:
        series["predictions"] = Series(evidence.predictions.predicted)
    return RecordedRun(
        name,
        plan,
        run.provenance,
        series | weights,
        (*_plan_contradictions(run, plan), *contradictions),
        code(plan),
    )


def _plan_contradictions(run: FinalRun, plan: Plan) -> list[str]:
    """Return the contradictions between a run and its plan."""
    contradictions = []
    if run.seed != plan.seed:
        contradictions.append(f"its plan has seed {plan.seed}, the run itself seed {run.seed}")
    planned = {str(value) for value in _leaves(plan.method.arguments)}
    contradictions += [
        f"its parameter {name} is {value}, which is not in its plan"
        for name, value in run.params.items()
        if value not in planned
    ]
    # The key of a plan depends on the versions.
    versions, sources = run.provenance.versions, run.provenance.sources
    same = all(versions.get(name) == importlib.metadata.version(name) for name in ("torch", "optstudy"))
    known = same and has_current_format(run.key) and sources is not None
    if known and run.key != run_key(plan, torch.__version__, sources or {}, corrected=is_corrected(run.key)):
        contradictions.append("its key does not match its plan and source files")
    return contradictions


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the scalar values of nested arguments, such as both of Adam's betas."""
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        yield value
        return
    for part in value:
        yield from _leaves(part)


def _chart_contradictions(tracking: Tracking, evidence: RunEvidence) -> list[str]:
    """Return the metrics whose charts in MLflow differ from the run's file."""
    return [
        f"MLflow's {metric} differs from its epochs.json"
        for metric, series in epoch_series(evidence.epochs).items()
        if tracking.history(evidence.run.run_id, metric)
        != list(zip(series.at, series.values.tolist(), strict=True))
    ]


def final_series(run: Mapping[str, Any]) -> dict[str, Series]:
    """Return the reproducible final metrics, from the fields of a FinalRun; accuracies are fractions."""
    values = {metric.short_name: metric.lookup(run) for metric in FINAL if metric.reproducible}
    values["steps"] = values["steps"] or None  # 0 if they were not recorded
    if (curvature := run.get("curvature")) is not None:
        values["verdict"] = curvature.verdict if curvature.verdict != NO_SIGN else None  # which no rerun has
        values["sign"] = recorded_sign(curvature.verdict, curvature.sign) or None
    return {
        f"{FINAL_PREFIX}{name}": Series(np.array(value))
        for name, value in values.items()
        if value is not None
    }


def epoch_series(records: Sequence[EpochRecord]) -> dict[str, Series]:
    """Return the reproducible metrics of epochs."""
    series = {}
    for metric in EPOCH:
        values = {record.epoch: getattr(record, metric.field) for record in records}
        values = {epoch: value for epoch, value in values.items() if value is not None}
        if values and metric.reproducible:
            name = metric.name.format(heldout="test")
            series[name] = Series(np.array([*values.values()]), tuple(values), "epoch")
    return series


def trace_series(trace: EigenTrace | None) -> dict[str, Series]:
    """Return the eigenvalues tracked over the last steps."""
    if trace is None:
        return {}
    columns = {name: getattr(trace, name) for name in TRACE}
    if not trace.sign.all():  # "" where it was not recorded
        del columns["sign"]
    if (trace.verdict == NO_SIGN).any():  # which no rerun has
        del columns["verdict"]
    for index in (0, 1):
        columns[f"lambda_{index + 1}"] = trace.values[:, index]
        columns[f"residual_{index + 1}"] = trace.residuals[:, index]
    steps = tuple(trace.step.tolist())
    series = {f"eigen/{name}": Series(values, steps, "step") for name, values in columns.items()}
    if len(trace.preconditioned):
        at = tuple(trace.preconditioned_step.tolist())
        series["eigen/preconditioned_lambda_1"] = Series(trace.preconditioned, at, "step")
    return series


def curve_series(curvature: CurvatureResult | None) -> dict[str, Series]:
    """Return the loss around the final weights, and their spectral density."""
    if curvature is None:
        return {}
    return {f"curves/{name}": Series(np.asarray(getattr(curvature, name))) for name in CURVES}


def weight_series(weights: Mapping[str, Tensor]) -> dict[str, Series]:
    """Return a model's parameters and buffers; bfloat16, which numpy lacks, becomes float32 without rounding."""
    return {f"weights/{name}": Series(_array(tensor)) for name, tensor in weights.items()}


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _state_dict(data: bytes, run: FinalRun) -> dict[str, Tensor]:
    where = f"weights.pt of run {run.run_id}"
    try:
        with warnings.catch_warnings(action="ignore"):  # of kinds of tensors that are refused below
            loaded: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises errors of many kinds on invalid bytes
        raise OptstudyError(f"{where} is damaged ({type(error).__name__}); {_REMEDY}") from error
    if not (isinstance(loaded, dict) and all(isinstance(value, Tensor) for value in loaded.values())):
        raise OptstudyError(f"{where} holds no weights; {_REMEDY}")
    for name, value in loaded.items():
        if not is_dense(value, COMPLEX):
            raise OptstudyError(
                f"{where}: {name} is not a dense tensor of numbers, which alone can be compared"
            )
    return loaded
