"""The driver of a study, and the only writer of its results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from optstudy.comparison.table import Comparison, compare
from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.environment import gather_provenance
from optstudy.execution.flows import Flow, Fork, drive
from optstudy.execution.local import LocalWorkers, in_worker
from optstudy.execution.pool import WorkerPool
from optstudy.execution.ray import RayWorkers
from optstudy.optimizers import load_space
from optstudy.records.location import Location
from optstudy.records.search import SearchResult
from optstudy.records.space import Space
from optstudy.study.context import Context
from optstudy.study.estimate import estimate, rehearse_all
from optstudy.study.events import Event, Notice, Problem, SearchEnded, StudyEstimate
from optstudy.study.final_runs import final_flow, tag_superseded
from optstudy.study.fingerprint import check_data, check_fingerprint, check_parts
from optstudy.study.notices import adjusted_counts, lost_files, moved_server
from optstudy.study.presets import check_keys, read_preset
from optstudy.study.run_cache import Rungs
from optstudy.study.specification import Specification
from optstudy.study.timing import time_rows
from optstudy.study.tuning.best import read_best
from optstudy.study.tuning.flow import close_search, open_search, search_flow
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
        """Open a study, or describe a new one; nothing is written before it runs.

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
            UsageError: If a setting is invalid, or differs from the settings with which the study started.
        """
        if in_worker():
            raise UsageError(
                "this file runs a study whenever it is imported, also by the study's workers;"
                " put that under: if __name__ == '__main__':"
            )
        self.location = Location(Path(workspace), tracking_uri)
        self.files = StudyFiles(self.location.workspace, name)
        self._worker_pool = WorkerPool(jobs, data_dir, ray)
        self._recorded = read_recorded(self.files)
        if preset is None and self._recorded is None:
            preset = "quick"
        asked = read_preset(preset, self.location.workspace) if preset else {}
        self._asked = _checked(settings)
        self.specification = self._with(asked | self._asked)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.files.name

    def run(
        self,
        *phases: Phase,
        optimizers: Sequence[str] | None = None,
        configs: Sequence[str] | None = None,
        **settings: Any,
    ) -> Iterator[Event]:
        """Do the remaining work of the study, yielding events.

        Args:
            phases: ``"tuning"`` to search, ``"training"`` to train final runs; both by default.
            optimizers: Optimizers to run; all by default. New ones are added to the study.
            configs: Configurations to train; those of the study by default.
            settings: Keys of a preset to change.

        Raises:
            UsageError: If another process runs the study, or the request is invalid.
            OptstudyError: If the work cannot continue.
        """
        phases = phases or ("tuning", "training")
        added = {"optimizers": optimizers, "configs": configs}
        asked = _checked({**settings, **{key: value for key, value in added.items() if value}})
        with locked(self.files):
            self._recorded = read_recorded(self.files)
            self.specification = self._with(self.specification.to_keys() | asked)
            wanted = tuple(configs or self.specification.configs) if "training" in phases else ()
            spaces = self._spaces()
            chosen = {name: spaces[name] for name in optimizers or spaces}
            here = gather_provenance()
            fingerprint = check_fingerprint(
                self.files, self._recorded, self.specification, spaces, here.versions
            )
            params = self._params(chosen, wanted, searching="tuning" in phases)
            tuned = "tuning" in phases
            given = {**self._asked, **asked}
            yield from adjusted_counts(
                self.name, self.specification, given, tuning=tuned, training="training" in phases
            )
            with self._workers() as workers:
                tracking, notice = open_tracking(self.location)
                if notice:
                    yield Notice(notice)
                logged = {
                    experiment: tracking.logged_runs(experiment)
                    for experiment in (f"{self.name}/tuning", f"{self.name}/final")
                }
                rehearsed = rehearse_all(workers, self.specification, chosen, trials=tuned)
                yield estimate(
                    rehearsed, self.specification, chosen, trials=tuned, configs=wanted, jobs=len(workers)
                )
                fingerprint = check_data(fingerprint, rehearsed.data)
                yield from moved_server(self.name, fingerprint.get("tracking"), tracking.server)
                yield from lost_files(logged)
                self._record({**fingerprint, "tracking": tracking.server}, phases)
                context = Context(
                    files=self.files,
                    specification=self.specification,
                    spaces=spaces,
                    sources=fingerprint["sources"],
                    provenance=replace(here, versions=fingerprint["versions"], data=rehearsed.data.checksum),
                    data=rehearsed.data,
                    rehearsals=rehearsed.optimizers,
                    rungs=Rungs(self.files.folder / "rungs"),
                    tracking=tracking,
                    logged=logged,
                )
                flows = [_optimizer_flow(context, name, phases, wanted, params) for name in chosen]
                try:
                    yield from drive(flows, workers)
                finally:
                    tracking.interrupt_open_runs()
                yield from time_rows(context, workers, self._trained(chosen, wanted, params))

    def tune(
        self, trials: int | None = None, *, optimizers: Sequence[str] | None = None, **settings: Any
    ) -> dict[str, SearchResult]:
        """Search the best hyperparameters of each optimizer.

        Args:
            trials: Configurations to try for each optimizer.
            optimizers: Which of the study's; all by default.
            settings: Keys of a preset to change, such as ``tune_epochs``.

        Returns:
            What was found, by optimizer.

        Raises:
            OptstudyError: If an optimizer has no trial that completed.
        """
        given = settings if trials is None else {**settings, "trials": trials}
        events = _run_to_end(self.run("tuning", optimizers=optimizers, **given))
        return {e.result.optimizer: e.result for e in events if isinstance(e, SearchEnded)}

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
            optimizers: Which of the study's; all by default.
            configs: Where hyperparameters come from: ``best``, ``paper``, ``default``.
            settings: Keys of a preset to change, such as ``train_epochs``.

        Returns:
            The study's comparison.

        Raises:
            OptstudyError: If a run failed.
        """
        given = settings if seeds is None else {**settings, "seeds": seeds}
        _run_to_end(self.run("training", optimizers=optimizers, configs=configs, **given))
        return self.compare()

    def compare(self) -> Comparison:
        """Compare the study's final runs and finished searches, as recorded in MLflow."""
        tracking, _ = open_tracking(self.location)
        final = tracking.final_runs([self.name])
        return compare(read_evidence(tracking, [self.name], final, self.location.workspace))

    def estimate(self) -> StudyEstimate:
        """Estimate the time and disk space of the whole study from a few timed steps; nothing is written."""
        specification, spaces = self.specification, self._spaces()
        with self._workers() as workers:
            rehearsed = rehearse_all(workers, specification, spaces, trials=True)
            configs, jobs = specification.configs, len(workers)
        return estimate(rehearsed, specification, spaces, trials=True, configs=configs, jobs=jobs)

    def _with(self, asked: Mapping[str, Any]) -> Specification:
        if self._recorded is None:
            return Specification.from_keys(asked)
        try:
            return merge(self.files, self._recorded, asked)
        except ChangedStudyError:
            check_parts(asked)  # a missing part is the more useful error: another study name would not help
            raise

    def _spaces(self) -> dict[str, Space]:
        return {name: load_space(name, self.location.workspace) for name in self.specification.optimizers}

    def _params(
        self, chosen: Mapping[str, Space], configs: Sequence[str], *, searching: bool
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return hyperparameters by optimizer and config, without those that the search has yet to find."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for name, space in chosen.items():
            for config in configs:
                if config != "best":
                    found[name, config] = space.config("paper" if config == "paper" else "default")
                elif not searching:
                    found[name, config] = read_best(self.files, name, space)
        return found

    def _trained(
        self,
        chosen: Mapping[str, Space],
        configs: Sequence[str],
        params: Mapping[tuple[str, str], dict[str, Any]],
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the trained hyperparameters by optimizer and config, without those of failed searches."""
        found = dict(params)
        for name, space in chosen.items():
            if "best" in configs and self.files.best(name).exists():
                found[name, "best"] = read_best(self.files, name, space)
        return found

    def _workers(self) -> LocalWorkers | RayWorkers:
        asked = self.specification
        optimizers = [space.optimizer for space in self._spaces().values()]
        return self._worker_pool.workers(
            asked.device,
            asked.threads,
            deterministic=asked.deterministic,
            references=(asked.dataset, asked.model, asked.loss, *optimizers),
        )

    def _record(self, fingerprint: dict[str, Any], phases: Sequence[Phase]) -> None:
        begun = self._recorded.begun if self._recorded else ()
        both = tuple(dict.fromkeys((*begun, *phases)))
        self._recorded = RecordedStudy(self.specification, fingerprint, both)
        write_recorded(self.files, self._recorded)


def _optimizer_flow(
    context: Context,
    optimizer: str,
    phases: Sequence[Phase],
    configs: Sequence[str],
    params: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Flow:
    """Tune one optimizer and train its final runs; those of fixed configurations start before the search."""
    chosen = {config: values for (name, config), values in params.items() if name == optimizer}
    for config, values in chosen.items():
        yield from _finals(context, optimizer, config, values)
    if "tuning" not in phases:
        return
    space = context.spaces[optimizer]
    parent = open_search(context, space)
    found = yield from search_flow(context, space, parent)
    if found.best is not None and "training" in phases and "best" in configs:
        yield from _finals(context, optimizer, "best", found.best.params)
    yield from close_search(context, found, parent)


def _finals(context: Context, optimizer: str, config: str, params: Mapping[str, Any]) -> Flow:
    yield from tag_superseded(context, optimizer, config, params)
    yield Fork(
        tuple(
            final_flow(context, optimizer, config, seed, params)
            for seed in range(context.specification.training.seeds)
        )
    )


def _run_to_end(events: Iterator[Event]) -> list[Event]:
    seen = list(events)
    problems = [event.text for event in seen if isinstance(event, Problem)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise OptstudyError(problems[0] + more)
    return seen


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Callable[..., Any] | str] = {
        key: value for key, value in settings.items() if key in ("model", "dataset", "loss")
    }
    return check_keys({**settings, **{key: reference_to(value) for key, value in named.items()}})
