"""The driver of a study; only the driver writes results."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from optstudy.comparison.table import Comparison, compare
from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.environment import gather_provenance
from optstudy.execution.flows import Flow, Gather, drive
from optstudy.execution.local import LocalWorkers, in_worker
from optstudy.execution.pool import WorkerPool
from optstudy.execution.ray import RayWorkers
from optstudy.optimizers import load_space
from optstudy.records.io import remove_unfinished
from optstudy.records.location import Location
from optstudy.records.provenance import Provenance
from optstudy.records.search import SearchResult
from optstudy.records.space import Space
from optstudy.report.citation import unknown_citations
from optstudy.study.accepted import accept_changes, earlier_sources
from optstudy.study.checks import check_names
from optstudy.study.context import Context
from optstudy.study.estimate import StudyEstimate, estimate_study
from optstudy.study.events import Event, Notice, UncheckedFile
from optstudy.study.final_runs import final_run_flow, tag_superseded
from optstudy.study.fingerprint import check_data, check_fingerprint, check_specification
from optstudy.study.notices import (
    adjusted_counts,
    count_unchecked,
    damaged_runs,
    earlier_best,
    earlier_curvature,
    earlier_work,
    letters_without_font,
    lost_files,
    moved_server,
    unchecked_best,
)
from optstudy.study.presets import read_preset
from optstudy.study.run_cache import RunCache
from optstudy.study.specification import Specification, check_keys
from optstudy.study.status import earlier_run_notices
from optstudy.study.timing import time_rows
from optstudy.study.tuning.best import read_best
from optstudy.study.tuning.flow import close_search, open_search, search_flow
from optstudy.study.tuning.journal import Journal
from optstudy.study.workspace import (
    ChangedStudyError,
    RecordedStudy,
    StudyFiles,
    locked,
    merge,
    read_recorded,
    write_recorded,
)
from optstudy.tracking import open_tracking
from optstudy.tracking.evidence import read_evidence
from optstudy.workloads.user_code import reference_to

Phase = Literal["tuning", "training"]


class Study:
    """A comparison of optimizers under the same budget.

    A study is stored in a workspace folder; continuing it does not repeat finished work.

    Example::

        study = Study("mine", model=make, dataset=load, optimizers=["sgd", "adam"])
        study.tune(trials=20)
        study.train(seeds=5)
        study.compare().to_pandas()
    """

    def __init__(
        self,
        name: str,
        *,
        preset: str | None = None,
        workspace: str | Path = ".",
        tracking_uri: str | None = None,
        jobs: int | None = None,
        ray: str | None = None,
        data_dir: str | Path | None = None,
        **settings: Any,
    ) -> None:
        """Open or create a study; nothing is written before it runs.

        Args:
            name: The study's name.
            preset: Preset with the study's settings; by default ``quick`` for a new study.
            workspace: Folder that holds ``tuning/`` and ``mlruns/``.
            tracking_uri: MLflow server; by default ``MLFLOW_TRACKING_URI``, else the workspace's own store.
            jobs: Number of workers; by default one per available CPU core, or one per visible GPU.
            ray: Ray cluster to run on instead of this machine: ``auto`` or ``HOST:PORT``.
            data_dir: Folder of Fashion-MNIST and CIFAR-10; ``data`` by default.
            settings: Keys of a preset; ``model``, ``dataset`` and ``loss`` may be functions of a file.

        Raises:
            UsageError: If a setting is invalid, or differs from the setting that the study started with.
        """
        if in_worker():
            raise UsageError(
                "this file runs a study when it is imported, also by the study's workers;"
                " move the study under: if __name__ == '__main__':"
            )
        self.location = Location(Path(workspace), tracking_uri)
        # before the study's name, which the command line takes from the preset
        keys = {} if preset is None else read_preset(preset, self.location.workspace)
        self.files = StudyFiles(self.location.workspace, name)
        self._worker_pool = WorkerPool(jobs, data_dir, ray)
        self._recorded = read_recorded(self.files)
        if preset is None and self._recorded is None:
            keys = read_preset("quick", self.location.workspace)
        self._chosen: tuple[str, ...] = ()  # optimizers that the command at hand runs; all if empty
        self._settings = _validated(settings)
        self.specification = self._updated(keys | self._settings)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.files.name

    def run(
        self,
        *phases: Phase,
        optimizers: Sequence[str] | None = None,
        configs: Sequence[str] | None = None,
        accept_sources: Sequence[str] = (),
        **settings: Any,
    ) -> Iterator[Event]:
        """Do the remaining work of the study, yielding events.

        Args:
            phases: ``"tuning"`` to search, ``"training"`` to train final runs; both by default.
            optimizers: Optimizers to run; all by default. New optimizers are added to the study.
            configs: Configurations to train; by default those of the study.
            accept_sources: Changed source files of the study to accept, since they change no number of its finished
                runs. These keep the hashes with which they were computed; other runs are computed with the new files.
            settings: Keys of a preset to change.

        Raises:
            UsageError: If another process runs the study, or the request is invalid.
            OptstudyError: If the work cannot continue.
        """
        yield from count_unchecked(
            self.name, self._events(phases, optimizers, configs, accept_sources, settings)
        )

    def _events(
        self,
        phases: tuple[Phase, ...],
        optimizers: Sequence[str] | None,
        configs: Sequence[str] | None,
        accept_sources: Sequence[str],
        settings: dict[str, Any],
    ) -> Iterator[Event | UncheckedFile]:
        phases = phases or ("tuning", "training")
        tuning, training = "tuning" in phases, "training" in phases
        added = {"optimizers": optimizers, "configs": configs}
        changes = _validated(settings | {key: value for key, value in added.items() if value})
        with locked(self.files):
            for folder in (self.files.folder, self.files.bests):
                remove_unfinished(folder)
            self._recorded = read_recorded(self.files)
            if self._recorded is not None and not self._recorded.has_checksum:
                yield UncheckedFile(self.files.specification)
            if accept_sources:
                self._recorded = accept_changes(self.files, self._recorded, accept_sources)
            self.specification = self._updated(self.specification.to_keys() | changes)
            self._chosen = tuple(optimizers or ())
            chosen = self._spaces()
            configs = tuple(configs or self.specification.configs) if training else ()
            provenance = gather_provenance()
            fingerprint = check_fingerprint(
                self.files, self._recorded, self.specification, chosen, provenance.versions
            )
            params = self._params(chosen, configs, tuning=tuning)
            yield from adjusted_counts(
                self.name, self.specification, self._settings | changes, tuning=tuning, training=training
            )
            if not tuning:
                yield from earlier_best(self.name, self._recorded, params)
            yield from unchecked_best(self.files, params)
            with self._workers() as workers:
                context = yield from self._begin(workers, phases, chosen, configs, fingerprint, provenance)
                flows = [_train(context, name, config, values) for (name, config), values in params.items()]
                if tuning:
                    flows += [_tune(context, name, train_best="best" in configs) for name in chosen]
                try:
                    yield from drive(flows, workers)
                finally:
                    context.tracking.interrupt_open_runs()
                yield from time_rows(context, workers, self._trained(chosen, configs, params))

    def tune(
        self, trials: int | None = None, *, optimizers: Sequence[str] | None = None, **settings: Any
    ) -> dict[str, SearchResult]:
        """Search for the best hyperparameters of each optimizer.

        Args:
            trials: Configurations to try for each optimizer.
            optimizers: Optimizers of the study to run; all by default.
            settings: Keys of a preset to change, such as ``tune_epochs``, and ``accept_sources`` of `run`.

        Returns:
            The search of each optimizer.

        Raises:
            OptstudyError: If no trial of an optimizer completed.
        """
        changes = settings if trials is None else {**settings, "trials": trials}
        events = _collect(self.run("tuning", optimizers=optimizers, **changes))
        return {event.optimizer: event for event in events if isinstance(event, SearchResult)}

    def train(
        self,
        seeds: int | None = None,
        *,
        optimizers: Sequence[str] | None = None,
        configs: Sequence[str] = ("best",),
        **settings: Any,
    ) -> Comparison:
        """Train final runs on all training images.

        Args:
            seeds: Runs of each configuration, from seed 0 on.
            optimizers: Optimizers of the study to run; all by default.
            configs: Sources of the hyperparameters: ``best``, ``paper``, ``default``.
            settings: Keys of a preset to change, such as ``train_epochs``, and ``accept_sources`` of `run`.

        Returns:
            The study's comparison.

        Raises:
            OptstudyError: If a run failed.
        """
        changes = settings if seeds is None else {**settings, "seeds": seeds}
        _collect(self.run("training", optimizers=optimizers, configs=configs, **changes))
        return self.compare()

    def compare(self) -> Comparison:
        """Compare the study's final runs and finished searches, as recorded in MLflow."""
        tracking, _ = open_tracking(self.location)
        return compare(read_evidence(tracking, [self.name], self.location.workspace))

    def estimate(self) -> StudyEstimate:
        """Estimate the time and disk space of the whole study from a few timed steps; nothing is written."""
        self._chosen = ()
        specification, spaces = self.specification, self._spaces()
        with self._workers() as workers:
            return estimate_study(workers, specification, spaces, tuning=True, configs=specification.configs)

    def _updated(self, keys: Mapping[str, Any]) -> Specification:
        if self._recorded is None:
            return Specification.from_keys(keys)
        try:
            return merge(self.files, self._recorded, keys)
        except ChangedStudyError:
            check_names(keys)  # report an unknown name first: another study name would not help
            raise

    def _spaces(self) -> dict[str, Space]:
        """Return the spaces of the optimizers to run; files of others need not exist."""
        names = self._chosen or self.specification.optimizers
        return {name: load_space(name, self.location.workspace) for name in names}

    def _params(
        self, spaces: Mapping[str, Space], configs: Sequence[str], *, tuning: bool
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return hyperparameters by optimizer and config, without those that a search of this run selects."""
        return {
            (name, config): read_best(self.files, name, space)
            if config == "best"
            else space.config("paper" if config == "paper" else "default")
            for name, space in spaces.items()
            for config in configs
            if config != "best" or not tuning
        }

    def _trained(
        self,
        spaces: Mapping[str, Space],
        configs: Sequence[str],
        params: Mapping[tuple[str, str], dict[str, Any]],
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the trained hyperparameters by optimizer and config, without failed searches."""
        searched = [name for name in spaces if "best" in configs and self.files.best(name).exists()]
        return {**params, **{(name, "best"): read_best(self.files, name, spaces[name]) for name in searched}}

    def _workers(self) -> LocalWorkers | RayWorkers:
        specification = self.specification
        optimizers = [space.optimizer for space in self._spaces().values()]
        return self._worker_pool.workers(
            specification.device,
            specification.threads,
            deterministic=specification.deterministic,
            references=(specification.dataset, specification.model, specification.loss, *optimizers),
        )

    def _begin(
        self,
        workers: LocalWorkers | RayWorkers,
        phases: Sequence[Phase],
        spaces: Mapping[str, Space],
        configs: Sequence[str],
        fingerprint: Mapping[str, Any],
        provenance: Provenance,
    ) -> Generator[Event, None, Context]:
        """Check and estimate the work, and record the study; return its context."""
        tracking, notice = open_tracking(self.location)
        if notice:
            yield Notice(notice)
        tracking.check_not_deleted([self.name])
        estimate = estimate_study(
            workers, self.specification, spaces, tuning="tuning" in phases, configs=configs
        )
        yield estimate
        yield from map(Notice, estimate.remarks)
        yield from map(Notice, unknown_citations(space.cite for space in spaces.values()))
        fingerprint = check_data(fingerprint, estimate.data)
        fingerprint = check_specification(self._recorded, self.specification, fingerprint)
        yield from moved_server(self.name, fingerprint.get("tracking"), tracking.server)
        if tracking.begin(self.name, fingerprint["specification"]):
            yield from map(Notice, earlier_run_notices(tracking, [self.name]))
        logged = {
            experiment: tracking.logged_runs(experiment, with_files=True)
            for experiment in (f"{self.name}/tuning", f"{self.name}/final")
        }
        yield from earlier_work(logged)
        yield from lost_files(logged)
        yield from damaged_runs(logged, phases, spaces, configs)
        if "training" in phases:
            yield from earlier_curvature(logged)
        labels = (space.look.label for space in spaces.values())
        yield from letters_without_font([*estimate.data.classes, *labels])
        self._record({**fingerprint, "tracking": tracking.server}, phases)
        return Context(
            files=self.files,
            specification=self.specification,
            spaces=spaces,
            searched=tuple(
                item["name"] for space in fingerprint["spaces"].values() for item in space["search"]
            ),
            sources=fingerprint["sources"],
            earlier_sources=earlier_sources(fingerprint),
            provenance=replace(provenance, versions=fingerprint["versions"], data=estimate.data.checksum),
            data=estimate.data,
            rehearsals=estimate.rehearsals,
            cache=RunCache(self.files.rungs),
            journal=Journal(self.files.journal),
            tracking=tracking,
            logged=logged,
        )

    def _record(self, fingerprint: dict[str, Any], phases: Sequence[Phase]) -> None:
        started = self._recorded.started_phases if self._recorded else ()
        phases_so_far = tuple(dict.fromkeys((*started, *phases)))
        self._recorded = RecordedStudy(self.specification, fingerprint, phases_so_far)
        write_recorded(self.files, self._recorded)


def _tune(context: Context, optimizer: str, *, train_best: bool) -> Flow:
    """Search the best configuration of an optimizer, and train its final runs."""
    space = context.spaces[optimizer]
    parent = open_search(context, space)
    result = yield from search_flow(context, space, parent)
    closing = close_search(context, result, parent)
    if train_best and result.best is not None:
        yield Gather((_train(context, optimizer, "best", result.best.params), closing))
    else:
        yield from closing


def _train(context: Context, optimizer: str, config: str, params: Mapping[str, Any]) -> Flow:
    """Train the final runs of a configuration."""
    yield from tag_superseded(context, optimizer, config, params)
    seeds = range(context.specification.training.seeds)
    yield Gather(tuple(final_run_flow(context, optimizer, config, seed, params) for seed in seeds))


def _collect(events: Iterator[Event]) -> list[Event]:
    """Return all events.

    Raises:
        OptstudyError: If an event is a problem.
    """
    collected = list(events)
    problems = [event.text for event in collected if isinstance(event, Notice) and event.problem]
    if problems:
        suffix = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise OptstudyError(problems[0] + suffix)
    return collected


def _validated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Validate settings, and replace functions by their references."""
    functions = {
        key: reference_to(value) for key, value in settings.items() if key in ("model", "dataset", "loss")
    }
    return check_keys({**settings, **functions})
