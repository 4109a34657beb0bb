"""A study: the driver and the single writer."""

import dataclasses
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from optstudy.context import Context, run_seconds
from optstudy.data import Description, describe, load
from optstudy.errors import OptstudyError, UsageError
from optstudy.events import Estimate, Event, Notice, OptimizerEstimate, Problem, SearchEnded
from optstudy.execution import (
    Flow,
    Fork,
    LocalWorkers,
    Task,
    available_cores,
    drive,
    in_worker,
    run_all,
)
from optstudy.final import FinalTask, final_flow, superseded
from optstudy.optimizers import Space, load_space
from optstudy.plans import final_plan, search_settings, trial_plan, whole_batches
from optstudy.references import reference_to, sources
from optstudy.rungs import Rungs
from optstudy.search import Searched
from optstudy.specification import Specification, check_keys, read_preset
from optstudy.table import Comparison, compare
from optstudy.tracking import Tracking, open_tracking
from optstudy.training import Rehearsal, rehearse
from optstudy.tuning import read_best, tuning_flow
from optstudy.workspace import (
    ChangedStudyError,
    Recorded,
    StudyFiles,
    locked,
    merge,
    read_recorded,
    write_recorded,
)

Phase = Literal["tuning", "training"]
REHEARSED_STEPS = 10
RUN_BYTES = 400_000  # figures, histories and database rows of a final run, beside its weights


class Study:
    """Optimizers compared under the same budget.

    A study lives in a workspace folder, and going on with it repeats nothing that is finished.

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
        data_dir: str | Path | None = None,
        **settings: Any,
    ) -> None:
        """Open a study, or describe a new one; nothing is written before it runs.

        Args:
            name: The study's name.
            preset: What it is made of; a new study takes ``quick``.
            workspace: Folder that holds ``tuning/`` and ``mlruns/``.
            tracking_uri: MLflow server; by default ``MLFLOW_TRACKING_URI``, else the workspace's own store.
            jobs: Workers; by default one a CPU core that this process may use, or one a visible GPU.
            data_dir: Folder of Fashion-MNIST and CIFAR-10; ``data`` by default.
            settings: Keys of a preset; ``model``, ``dataset`` and ``loss`` may be functions of a file.

        Raises:
            UsageError: If a setting is not what it must be, or differs from what the study was begun with.
        """
        if in_worker():
            raise UsageError(
                "this file runs a study whenever it is imported, also by the study's workers;"
                " put that under: if __name__ == '__main__':"
            )
        self.workspace = Path(workspace)
        self.files = StudyFiles(self.workspace, name)
        self._jobs = jobs
        self._data_dir = data_dir
        self._tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        self._recorded = read_recorded(self.files)
        if preset is None and self._recorded is None:
            preset = "quick"
        asked = read_preset(preset, self.workspace) if preset else {}
        asked |= _checked(settings)
        self.specification = self._with(asked)
        self.notices: list[str] = []

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
        """Do what is left to do, and yield events as it goes.

        Args:
            phases: ``"tuning"`` searches, ``"training"`` trains final runs; both by default.
            optimizers: Which of the study's; all by default. New ones join the study.
            configs: Where final runs' hyperparameters come from; the study's by default.
            settings: Keys of a preset to change.

        Raises:
            UsageError: If another process runs the study, or something cannot be done as asked.
            OptstudyError: If the work cannot go on.
        """
        phases = phases or ("tuning", "training")
        added = {"optimizers": optimizers, "configs": configs}
        asked = _checked({**settings, **{key: tuple(value) for key, value in added.items() if value}})
        with locked(self.files):
            self._recorded = read_recorded(self.files)
            self.specification = self._with(dataclasses.asdict(self.specification) | asked)
            chosen = tuple(optimizers or self.specification.optimizers)
            wanted = tuple(configs or self.specification.configs)
            spaces = self._spaces()
            facts = self._facts(spaces)
            params = self._params(phases, chosen, wanted, spaces)
            yield from self._rounded(phases)
            tracking = self.tracking()
            yield from (Notice(text) for text in self.notices)
            with LocalWorkers(self._environments()) as workers:
                data, rehearsals = self._rehearse(workers, chosen, spaces)
                yield self._estimate(data, rehearsals, spaces, phases, wanted)
                self._record(facts, phases)
                context = Context(
                    files=self.files,
                    specification=self.specification,
                    spaces=spaces,
                    sources=facts["sources"],
                    versions=facts["versions"],
                    data=data,
                    rehearsals=rehearsals,
                    rungs=Rungs(self.files.folder / "rungs"),
                    tracking=tracking,
                    known={
                        f"{self.name}/{kind}": tracking.known_runs(f"{self.name}/{kind}")
                        for kind in ("tuning", "final")
                    },
                )
                flows = [_optimizer_flow(context, name, phases, wanted, params) for name in chosen]
                yield from drive(flows, workers)

    def tune(
        self, trials: int | None = None, *, optimizers: Sequence[str] | None = None, **settings: Any
    ) -> dict[str, Searched]:
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
        events = _heard(self.run("tuning", optimizers=optimizers, **given))
        return {e.searched.optimizer: e.searched for e in events if isinstance(e, SearchEnded)}

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
        _heard(self.run("training", optimizers=optimizers, configs=configs, **given))
        return self.compare()

    def compare(self) -> Comparison:
        """Compare the study's final runs, as MLflow has them."""
        return compare(self.tracking().final_runs([self.name]))

    def estimate(self) -> Estimate:
        """Time a few steps of each optimizer, and tell what the whole study will take; nothing is written."""
        spaces = self._spaces()
        chosen = self.specification.optimizers
        with LocalWorkers(self._environments()) as workers:
            data, rehearsals = self._rehearse(workers, chosen, spaces)
        return self._estimate(data, rehearsals, spaces, ("tuning", "training"), self.specification.configs)

    def tracking(self) -> Tracking:
        """Open the store that this study's runs are in."""
        tracking, notice = open_tracking(self.workspace, self._tracking_uri)
        self.notices = [notice] if notice else []
        return tracking

    @property
    def jobs(self) -> int:
        """Workers."""
        return len(self._environments())

    def _with(self, asked: Mapping[str, Any]) -> Specification:
        if self._recorded is None:
            return Specification(**asked)
        return merge(self.files, self._recorded, asked)

    def _spaces(self) -> dict[str, Space]:
        return {name: load_space(name, self.workspace) for name in self.specification.optimizers}

    def _facts(self, spaces: Mapping[str, Space]) -> dict[str, Any]:
        """What else the results rest on, checked against what the study was begun with."""
        specification = self.specification
        named = [specification.dataset, specification.model, specification.loss]
        files = [sources(reference) for reference in (*named, *(s.optimizer for s in spaces.values()))]
        facts: dict[str, dict[str, Any]] = {
            "spaces": {name: _plain(space) for name, space in spaces.items()},
            "sources": {name: digest for found in files for name, digest in sorted(found.items())},
            "versions": {name: importlib.metadata.version(name) for name in ("optstudy", "optuna", "torch")},
        }
        before = self._recorded.facts if self._recorded else {}
        for kind, now in facts.items():
            for name, old in before.get(kind, {}).items():
                if now.get(name, old) != old and name != "optstudy":
                    raise ChangedStudyError(self.files, _difference(kind, name, old, now[name]))
        return {kind: {**before.get(kind, {}), **now} for kind, now in facts.items()}

    def _params(
        self,
        phases: Sequence[Phase],
        chosen: Sequence[str],
        configs: Sequence[str],
        spaces: Mapping[str, Space],
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Hyperparameters by optimizer and config, those that the search will choose left out."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        if "training" not in phases:
            return found
        for name in chosen:
            for config in configs:
                if config != "best":
                    found[name, config] = spaces[name].config(config)  # type: ignore[arg-type]  # checked by key
                elif "tuning" not in phases:
                    found[name, config] = read_best(self.files, name, spaces[name])
        return found

    def _rounded(self, phases: Sequence[Phase]) -> Iterator[Event]:
        trials, batch = self.specification.trials, self.specification.batch
        whole = whole_batches(trials, batch)
        if "tuning" in phases and whole != trials:
            yield Notice(f"{trials} trials become {whole}: they come in whole batches of {batch}")

    def _record(self, facts: dict[str, Any], phases: Sequence[Phase]) -> None:
        begun = self._recorded.begun if self._recorded else ()
        both = tuple(dict.fromkeys((*begun, *phases)))
        self._recorded = Recorded(self.specification, facts, both)
        write_recorded(self.files, self._recorded)

    def _environments(self) -> list[dict[str, str]]:
        threads = str(self.specification.threads)
        common = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if self._data_dir is not None:
            common["OPTSTUDY_DATA_DIR"] = str(self._data_dir)
        if self.specification.device != "cuda":
            return [common] * (self._jobs or available_cores())
        import torch

        visible = [v for v in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if v]
        devices = visible or [str(number) for number in range(torch.cuda.device_count())]
        jobs = self._jobs or max(1, len(devices))
        return [
            {**common, "CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else common
            for number in range(jobs)
        ]

    def _rehearse(
        self, workers: LocalWorkers, chosen: Sequence[str], spaces: Mapping[str, Space]
    ) -> tuple[Description, dict[str, Rehearsal]]:
        tasks = [Task(describe_data, (self.specification.dataset,))]
        for name in chosen:
            plan = final_plan(self.specification, spaces[name], spaces[name].default, 0)
            tasks.append(Task(rehearse, (plan, REHEARSED_STEPS)))
        data, *timed = run_all(tasks, workers)
        return data, dict(zip(chosen, timed, strict=True))

    def _estimate(
        self,
        data: Description,
        rehearsals: Mapping[str, Rehearsal],
        spaces: Mapping[str, Space],
        phases: Sequence[Phase],
        configs: Sequence[str],
    ) -> Estimate:
        specification = self.specification
        trials = search_settings(specification).trials if "tuning" in phases else 0
        runs = specification.seeds * len(configs) if "training" in phases else 0
        rows = []
        for name, rehearsal in rehearsals.items():
            trial = trial_plan(specification, spaces[name], spaces[name].default)
            run = final_plan(specification, spaces[name], spaces[name].default, 0)
            rows.append(
                OptimizerEstimate(
                    optimizer=name,
                    step_seconds=rehearsal.step_seconds,
                    trials=trials,
                    trial_seconds=trials * run_seconds(rehearsal, data, trial, 0, trial.epochs),
                    runs=runs,
                    run_seconds=runs * run_seconds(rehearsal, data, run, 0, run.epochs),
                )
            )
        states = sum(rehearsal.state_bytes for rehearsal in rehearsals.values())
        return Estimate(
            optimizers=tuple(rows),
            jobs=self.jobs,
            parameters=next(iter(rehearsals.values())).parameters,
            disk_bytes=runs * (2 * states + RUN_BYTES * len(rows)) + trials * len(rows) * 20_000,
        )


def describe_data(reference: str) -> Description:
    """Load a data set and describe it; a worker's task."""
    return describe(load(reference), reference)


def _optimizer_flow(
    context: Context,
    optimizer: str,
    phases: Sequence[Phase],
    configs: Sequence[str],
    params: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Flow:
    """Tune one optimizer, then train its final runs; those of fixed configurations need not wait."""
    chosen = {config: values for (name, config), values in params.items() if name == optimizer}
    for config, values in chosen.items():
        yield from _finals(context, optimizer, config, values)
    if "tuning" in phases:
        searched = yield from tuning_flow(context, optimizer)
        if searched is not None and "training" in phases and "best" in configs:
            yield from _finals(context, optimizer, "best", searched.best.params)


def _finals(context: Context, optimizer: str, config: str, params: Mapping[str, Any]) -> Flow:
    yield from superseded(context, optimizer, config, params)
    yield Fork(
        tuple(
            final_flow(context, FinalTask(optimizer, config, seed, params, with_model=seed == 0))
            for seed in range(context.specification.seeds)
        )
    )


def _heard(events: Iterator[Event]) -> list[Event]:
    heard = list(events)
    problems = [event.text for event in heard if isinstance(event, Problem)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise OptstudyError(problems[0] + more)
    return heard


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Callable[..., Any] | str] = {
        key: value for key, value in settings.items() if key in ("model", "dataset", "loss")
    }
    return check_keys({**settings, **{key: reference_to(value) for key, value in named.items()}})


def _difference(kind: str, name: str, old: Any, new: Any) -> str:
    match kind:
        case "versions":
            return f"{name} {old}, not {new}"
        case "spaces":
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            return f"another space of {name} ({', '.join(keys)} differ)"
        case _:
            return f"another {name}, which has changed since"


def _plain(space: Space) -> dict[str, Any]:
    """A space as JSON, without what does not change a search."""
    import json

    content = dataclasses.asdict(space)
    del content["source"], content["paper"]
    for dimension in content["search"]:
        del dimension["why"]
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain
