"""Rerun a run from its record, and compare the results."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optstudy.errors import OptstudyError
from optstudy.execution.environment import gather_provenance
from optstudy.execution.flows import Flow, Task, Workers, drive, require
from optstudy.posthoc.reproduce.compare import Judgement, MetricComparison, Series, compare_metric
from optstudy.posthoc.reproduce.recorded import (
    RecordedRun,
    curve_series,
    epoch_series,
    final_series,
    trace_series,
    weight_series,
)
from optstudy.posthoc.trust import check_kinds
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import eigen_trace
from optstudy.records.metrics import FINAL_PREFIX, RunResults, final_metrics, read_final_metrics
from optstudy.records.run import EpochRecord, Observation
from optstudy.study.events import WorkDone
from optstudy.training import RunState, run_rung
from optstudy.training.curvature import measure_final_curvature


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a rerun with its record."""

    name: str  # STUDY/RUN
    differing: Mapping[str, tuple[str, str]]  # by name, the recorded and current values of the environment
    unrecorded: tuple[str, ...]  # parts of the current environment that were not recorded
    absent: tuple[str, ...]  # metrics of the rerun that were not recorded
    contradictions: tuple[str, ...]  # in the record
    metrics: tuple[MetricComparison, ...]
    tolerance: float
    steps_per_epoch: int

    @property
    def judgement(self) -> Judgement:
        """The worst judgement of all metrics; "different" if the record contradicts itself."""
        judgements = {metric.judgement for metric in self.metrics}
        if "different" in judgements or self.contradictions:
            return "different"
        return "within tolerance" if "within tolerance" in judgements else "identical"

    @property
    def first_difference(self) -> MetricComparison | None:
        """The metric that differs first during training; None if all are identical."""
        different_metrics = [metric for metric in self.metrics if metric.judgement != "identical"]
        return min(different_metrics, key=self._epoch, default=None)

    def _epoch(self, metric: MetricComparison) -> float:
        """Return the fractional epoch of the first difference of a metric; infinity for final metrics."""
        return {"epoch": metric.at, "step": metric.at / self.steps_per_epoch}.get(metric.unit, math.inf)


def reproduce(
    runs: Sequence[RecordedRun], workers: Workers, tolerance: float = 0.01
) -> Iterator[WorkDone | Reproduction]:
    """Rerun runs, yielding each epoch and, at the end of each run, its comparison with the record.

    Args:
        runs: Recorded runs of one study.
        workers: Workers that rerun them.
        tolerance: Largest difference of a metric that counts as within tolerance; see `compare_metric`.

    Raises:
        UsageError: If the data, model or optimizer is missing, or is not one (see `check_kinds`).
        OptstudyError: If a run fails.
    """
    yield from drive([_reproduce(run, tolerance) for run in runs], workers)


def _reproduce(recorded: RecordedRun, tolerance: float) -> Flow:
    plan, name = recorded.plan, recorded.name
    yield from require(Task(check_kinds, (recorded.code.references,), name=name))
    provenance = yield from require(Task(gather_provenance, (plan,), name=name))
    epochs: list[EpochRecord] = []
    observations: list[Observation] = []
    machines: list[Mapping[str, str]] = []
    state, rung = None, None
    while rung is None or rung.outcome == "running":
        epoch = len(epochs)
        rung, state = yield from require(Task(run_rung, (plan, state, epoch, epoch + 1), name=name))
        epochs += rung.epochs
        observations += rung.observations
        machines.append(rung.machine)
        yield WorkDone(name, rung.epochs[-1].seconds, rung.epochs[-1])
    assert state is not None
    curvature = None
    if plan.trace is not None and rung.outcome == "completed":
        data = yield Task(measure_final_curvature, (plan, state), name=name)
        if not isinstance(data, OptstudyError):
            curvature = CurvatureResult.from_bytes(data)
        elif f"{FINAL_PREFIX}lambda_1" in recorded.series:
            raise data  # the recorded run has its curvature
    series = _series(RunResults(epochs, observations, curvature)) | weight_series(
        RunState.from_bytes(state).model
    )
    if rung.predicted is not None:
        series["predictions"] = Series(np.array(rung.predicted))
    provenance, missing = provenance.with_machines(machines), Series(np.zeros(0))
    yield Reproduction(
        name=name,
        differing=recorded.provenance.differences(provenance),
        unrecorded=tuple(recorded.provenance.unrecorded(provenance)),
        absent=tuple(metric for metric in series if metric not in recorded.series),
        contradictions=recorded.contradictions,
        metrics=tuple(
            compare_metric(metric, values, series.get(metric, missing), tolerance)
            for metric, values in recorded.series.items()
        ),
        tolerance=tolerance,
        steps_per_epoch=epochs[0].step_count,
    )


def _series(end: RunResults) -> dict[str, Series]:
    """Return the metrics of a rerun, rounded as MLflow stores them."""
    words = (end.curvature.verdict, end.curvature.sign) if end.curvature else ("", "")
    final = read_final_metrics(final_metrics(end), *words)
    return (
        final_series(final)
        | epoch_series(end.epochs)
        | trace_series(eigen_trace(end.observations))
        | curve_series(end.curvature)
    )
