"""Rerun a run from its record, and compare the two."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optstudy.execution.environment import gather_provenance
from optstudy.execution.flows import Failure, Flow, Task, Workers, drive
from optstudy.posthoc.reproduce.compare import Judgement, MetricComparison, Series, compare_metric
from optstudy.posthoc.reproduce.recorded import (
    RecordedRun,
    of_curves,
    of_epochs,
    of_run,
    of_trace,
    of_weights,
)
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import eigen_trace
from optstudy.records.metrics import RunEnd, final_metrics, read_final_metrics
from optstudy.records.run import EpochRecord, Observation
from optstudy.study.events import WorkDone
from optstudy.training import RunState, run_rung
from optstudy.training.curvature import measure_final_curvature

TOLERANCE = 0.01


@dataclass(frozen=True)
class Reproduced:
    """A run beside its record."""

    name: str
    differing: Mapping[str, tuple[str, str]]  # by name, where it was made and here
    unrecorded: tuple[str, ...]  # what is known here, and not of where it was made
    absent: tuple[str, ...]  # metrics that were made again and that the record does not have
    doubts: tuple[str, ...]  # where the record contradicts itself
    metrics: tuple[MetricComparison, ...]
    tolerance: float
    steps_per_epoch: int

    @property
    def judgement(self) -> Judgement:
        """The worst of all metrics; a record that contradicts itself is the record of another run."""
        found = {one.judgement for one in self.metrics}
        if "different" in found or self.doubts:
            return "different"
        return "within tolerance" if "within tolerance" in found else "identical"

    @property
    def first_parted(self) -> MetricComparison | None:
        """What first went another way; None where nothing did."""
        parted = [one for one in self.metrics if one.judgement != "identical"]
        return min(parted, key=self._moment, default=None)

    def _moment(self, one: MetricComparison) -> float:
        """When a metric parted, in epochs; what belongs to the end comes last."""
        return {"epoch": one.at, "step": one.at / self.steps_per_epoch}.get(one.unit, math.inf)


def reproduce(
    runs: Sequence[RecordedRun], workers: Workers, tolerance: float = TOLERANCE
) -> Iterator[WorkDone | Reproduced]:
    """Make runs again, telling each epoch, and compare each with its record as it is done.

    Args:
        runs: As they were recorded, all of one study.
        workers: Where they are made again.
        tolerance: Largest difference of a metric that counts as within tolerance; see `compare_metric`.

    Raises:
        UsageError: If the data, the model or the optimizer is not here.
        OptstudyError: If a run fails.
    """
    for event in drive([_reproduction(run, tolerance) for run in runs], workers):
        if isinstance(event, Failure):
            raise event.error()
        yield event


def _reproduction(recorded: RecordedRun, tolerance: float) -> Flow:
    plan = recorded.plan
    here = yield Task(gather_provenance, (plan,), name=recorded.name)
    if isinstance(here, Failure):
        yield here
        return
    epochs: list[EpochRecord] = []
    seen: list[Observation] = []
    machines: list[Mapping[str, str]] = []
    state, rung = None, None
    while rung is None or rung.outcome == "running":
        since = len(epochs)
        result = yield Task(run_rung, (plan, state, since, since + 1), name=recorded.name)
        if isinstance(result, Failure):
            yield result
            return
        rung, state = result
        epochs += rung.epochs
        seen += rung.observations
        machines.append(rung.machine)
        yield WorkDone(recorded.name, rung.epochs[-1].seconds, rung.epochs[-1])
    assert state is not None
    curvature = None
    if plan.trace is not None and rung.outcome == "completed":
        data = yield Task(measure_final_curvature, (plan, state), name=recorded.name)
        if isinstance(data, Failure):
            yield data
            return
        curvature = CurvatureResult.from_bytes(data)
    series = _series(RunEnd(epochs, seen, curvature)) | of_weights(RunState.from_bytes(state).model)
    if rung.predicted is not None:
        series["predictions"] = Series(np.array(rung.predicted))
    here = here.with_machines(machines)
    nothing = Series(np.zeros(0))
    yield Reproduced(
        recorded.name,
        recorded.provenance.differences(here),
        tuple(recorded.provenance.unrecorded(here)),
        tuple(name for name in series if name not in recorded.series),
        recorded.doubts,
        tuple(
            compare_metric(name, s, series.get(name, nothing), tolerance)
            for name, s in recorded.series.items()
        ),
        tolerance,
        steps_per_epoch=epochs[0].gradients,
    )


def _series(end: RunEnd) -> dict[str, Series]:
    """Return the metrics of a run that was made again, as MLflow would have given them back."""
    final = read_final_metrics(final_metrics(end), end.curvature.verdict if end.curvature else "")
    return (
        of_run(final)
        | of_epochs(end.epochs)
        | of_trace(eigen_trace(end.observations))
        | of_curves(end.curvature)
    )
