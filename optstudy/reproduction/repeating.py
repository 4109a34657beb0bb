"""A run made again from its record, and compared with it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optstudy.analysis import Analysis, analyse_run
from optstudy.eigentrace import eigen_trace
from optstudy.flows import Failure, Flow, Task, Workers, drive, run_all
from optstudy.reproduction.differing import Differing, differing, facts_here, sources_here, unrecorded
from optstudy.reproduction.recorded import Recorded, of_curves, of_ending, of_epochs, of_trace, of_weights
from optstudy.reproduction.series import Judged, Judgement, Series, judge
from optstudy.training import EpochRecord, Observation, Plan, RunState, run_rung

TOLERANCE = 0.01


@dataclass(frozen=True)
class Again:
    """A run that is being made again has reached an epoch."""

    name: str
    epoch: int
    epochs: int


@dataclass(frozen=True)
class Reproduced:
    """A run beside its record."""

    name: str
    differing: tuple[Differing, ...]  # between where it was made and here
    unrecorded: tuple[str, ...]  # what is known here, and not of where it was made
    doubts: tuple[str, ...]  # where the record contradicts itself
    judged: tuple[Judged, ...]
    tolerance: float
    steps_per_epoch: int

    @property
    def judgement(self) -> Judgement:
        """The worst of all metrics; a record that contradicts itself is the record of another run."""
        found = {one.judgement for one in self.judged}
        if "different" in found or self.doubts:
            return "different"
        return "within tolerance" if "within tolerance" in found else "identical"

    @property
    def first_parted(self) -> Judged | None:
        """What first went another way; None where nothing did."""
        parted = [one for one in self.judged if one.judgement != "identical"]
        return min(parted, key=self._moment, default=None)

    def _moment(self, one: Judged) -> float:
        """When a metric parted, in epochs; what belongs to the end comes last."""
        return {"epoch": one.at, "step": one.at / self.steps_per_epoch}.get(one.unit, math.inf)


def reproduce(
    runs: Sequence[Recorded], workers: Workers, tolerance: float = TOLERANCE
) -> Iterator[Again | Reproduced]:
    """Make runs again, and compare each with its record as it is done.

    Args:
        runs: As they were recorded, all of one study.
        workers: Where they are made again.
        tolerance: Largest difference of a metric that counts as within tolerance; see `series.judge`.

    Raises:
        UsageError: If the data, the model or the optimizer is not here.
        OptstudyError: If a run fails.
    """
    [(facts, files)] = run_all([Task(_here, (runs[0].plan,))], workers)
    for event in drive([_again(run, facts, files, tolerance) for run in runs], workers):
        if isinstance(event, Failure):
            raise event.error()
        yield event


def _here(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Return the facts and the user's files of this place; a worker's task."""
    return facts_here(plan), sources_here(plan)


def _again(recorded: Recorded, facts: Mapping[str, str], files: Mapping[str, str], tolerance: float) -> Flow:
    plan = recorded.plan
    epochs: list[EpochRecord] = []
    seen: list[Observation] = []
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
        yield Again(recorded.name, len(epochs), plan.epochs)
    assert state is not None
    analysis = None
    if plan.trace is not None and rung.outcome == "completed":
        analysis = yield Task(analyse_run, (plan, state), name=recorded.name)
        if isinstance(analysis, Failure):
            yield analysis
            return
    measured = None if analysis is None else Analysis.from_bytes(analysis)
    here = of_ending(epochs[-1], measured) | of_epochs(epochs) | of_trace(eigen_trace(seen))
    if measured is not None:
        here |= of_curves(measured)
    if rung.predicted is not None:
        here["predictions"] = Series(np.array(rung.predicted))
    here |= of_weights(RunState.from_bytes(state).model)
    nothing = Series(np.zeros(0))
    judged = [
        judge(name, series, here.get(name, nothing), tolerance) for name, series in recorded.series.items()
    ]
    yield Reproduced(
        recorded.name,
        tuple(differing(recorded, facts, files)),
        tuple(unrecorded(recorded, facts)),
        recorded.doubts,
        tuple(judged),
        tolerance,
        steps_per_epoch=epochs[0].gradients,
    )
