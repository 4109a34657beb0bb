"""The immutable context that all flows of a study share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from optstudy.errors import OptstudyError
from optstudy.execution.flows import Flow, Task
from optstudy.records.curvature import CURVATURE_FORMAT, CurvatureResult
from optstudy.records.metrics import provenance_tags
from optstudy.records.plan import DatasetDescription, Plan, run_key
from optstudy.records.provenance import Provenance
from optstudy.records.space import Space
from optstudy.study.accepted import EarlierSources
from optstudy.study.estimate import curvature_seconds, epoch_seconds
from optstudy.study.plans import split_sizes
from optstudy.study.run_cache import RunCache, told
from optstudy.study.specification import Specification
from optstudy.study.tuning.journal import Journal
from optstudy.study.workspace import StudyFiles
from optstudy.tracking import LoggedRun, Tracking
from optstudy.training import Rehearsal, run_verified_rung
from optstudy.training.curvature import measure_final_curvature
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.datasets import DataChangedError, load, load_description


@dataclass(frozen=True)
class Context:
    """A running study."""

    files: StudyFiles
    specification: Specification
    spaces: Mapping[str, Space]  # of the optimizers that are run
    sources: Mapping[str, Mapping[str, str]]  # hashes of the user's files, by reference and file
    provenance: Provenance  # of results computed by this process, without the user's files
    data: DatasetDescription
    rehearsals: Mapping[str, Rehearsal]  # timed steps of a final run, by optimizer
    cache: RunCache
    journal: Journal
    tracking: Tracking
    logged: Mapping[str, Mapping[str, LoggedRun]]  # already in MLflow at the start, by experiment and name
    earlier_sources: Sequence[EarlierSources] = ()  # before each accepted change, the oldest first
    searched: Sequence[str] = ()  # names of hyperparameters, also of optimizers that are not run

    def key(self, plan: Plan) -> str:
        """Return the cache key of a run."""
        return self._key(plan, self.source_hashes(plan))

    def source_hashes(self, plan: Plan) -> dict[str, str]:
        """Return the hashes of the user's files with which a run is computed; files of other optimizers may change.

        A run that had finished before a change of the files was accepted keeps the older hashes.
        """
        for version in self.earlier_sources:
            hashes = _merged(plan, {**self.sources, **version.sources})
            if self._key(plan, hashes) in version.keys:
                return hashes
        return _merged(plan, self.sources)

    def _key(self, plan: Plan, hashes: Mapping[str, str]) -> str:
        corrected = any(
            self.rehearsals[name].corrected
            for name, space in self.spaces.items()
            if space.optimizer == plan.method.optimizer and name in self.rehearsals
        )
        return run_key(plan, torch.__version__, hashes, corrected=corrected)

    def provenance_tags(self, plan: Plan, machines: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Return the provenance tags of a run whose rungs were computed on ``machines``."""
        return provenance_tags(
            replace(self.provenance, sources=self.source_hashes(plan)).with_machines(machines)
        )

    def experiment(self, kind: str) -> str:
        """The MLflow experiment of the study's trials (tuning) or final runs (final)."""
        return f"{self.files.name}/{kind}"

    def logged_run(self, kind: str, name: str, key: str) -> LoggedRun | None:
        """Return the MLflow run with a given name if it has the same key."""
        logged = self.logged[self.experiment(kind)].get(name)
        return logged if logged is not None and logged.key == key else None

    def rung(self, optimizer: str, plan: Plan, since: int, until: int, *, state_needed: bool = False) -> Flow:
        """Read a rung from disk, or compute it from the end of epoch ``since`` to the end of ``until``.

        ``state_needed`` states that the run's state is needed once it has ended; a last rung that is stored without
        state is then recomputed.
        The flow returns a Rung, or an OptstudyError if it failed.
        """
        key = self.key(plan)
        stored = yield from self._stored_rung(plan, since, until, state_needed=state_needed)
        if stored is not None:
            return stored
        state = (yield from told(self.cache.state(key, since))) if since else None
        result = yield Task(
            run_verified_rung,
            (self.data.checksum, plan, state, since, until),
            self.seconds(optimizer, plan, since, until),
        )
        if result is None:
            raise DataChangedError(plan.dataset)
        if not isinstance(result, tuple):
            return result
        rung, after = result
        self.cache.write(key, until, rung, after)
        return rung

    def _stored_rung(self, plan: Plan, since: int, until: int, *, state_needed: bool) -> Flow:
        key = self.key(plan)
        rung = yield from told(self.cache.read(key, until, split_sizes(plan, self.data)[1]))
        if rung is not None and rung.epochs and rung.epochs[0].epoch != since + 1:
            rung = None  # of a study with longer or shorter rungs
        if rung is not None and not (state_needed and rung.outcome != "running"):
            return rung
        state = yield from told(self.cache.state(key, until))  # if it is damaged, also without a rung
        return None if state is None else rung

    def state(self, key: str, epoch: int) -> Flow:
        """Read a state that was there a moment ago; the flow returns an OptstudyError if it is damaged now."""
        state = yield from told(self.cache.state(key, epoch))
        return OptstudyError(f"its state after epoch {epoch} was lost meanwhile") if state is None else state

    def curvature(self, optimizer: str, plan: Plan) -> Flow:
        """Read the curvature at the end of a run from disk, or measure it, also if it has another format.

        The flow returns a CurvatureResult, or an OptstudyError if it failed.
        """
        key = self.key(plan)
        stored = yield from told(self.cache.curvature(key))
        if stored is not None and (stored.format == CURVATURE_FORMAT or not self._can_measure(plan)):
            return stored
        state = yield from self.state(key, plan.epochs)
        if isinstance(state, OptstudyError):
            return state
        result = yield Task(measure_final_curvature, (plan, state), self.curvature_seconds(optimizer, plan))
        if isinstance(result, OptstudyError):
            return result
        self.cache.write_curvature(key, result)
        return CurvatureResult.from_bytes(result)

    def is_outdated(self, plan: Plan, logged: LoggedRun) -> bool:
        """Whether the curvature at the end of a logged run has another format, and can be measured again."""
        return logged.curvature_format not in ("", str(CURVATURE_FORMAT)) and self._can_measure(plan)

    def _can_measure(self, plan: Plan) -> bool:
        """Whether the weights at the end of a run are there, and the files with which they were trained."""
        current = self.source_hashes(plan) == _merged(plan, self.sources)
        return current and self.cache.has_state(self.key(plan), plan.epochs)

    def dataset(self) -> Dataset:
        """Load the data set in this process.

        Raises:
            DataChangedError: If it differs from the data set of the workers.
        """
        reference = self.specification.dataset
        if load_description(reference).checksum != self.data.checksum:
            raise DataChangedError(reference)
        return load(reference)

    def seconds(self, optimizer: str, plan: Plan, since: int, until: int) -> float:
        """Expected time of the epochs after ``since`` up to ``until``, on one worker."""
        return epoch_seconds(self.rehearsals[optimizer], self.data, plan, since, until)

    def curvature_seconds(self, optimizer: str, plan: Plan) -> float:
        """Expected time of measuring the curvature at the end of a run."""
        return curvature_seconds(self.rehearsals[optimizer], self.data, plan)


def _merged(plan: Plan, sources: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {name: digest for reference in plan.references for name, digest in sources[reference].items()}
