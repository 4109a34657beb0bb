"""Read studies, runs and their artifacts from MLflow."""

from __future__ import annotations

import contextlib
import gc
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Experiment, LifecycleStage, Run, ViewType
from mlflow.store.entities import PagedList

from optstudy.errors import OptstudyError
from optstudy.records.checksums import DISAGREES, Damage, DamagedError, RunContent, file_checksum
from optstudy.records.io import temporary_folder
from optstudy.records.metrics import Tag
from optstudy.records.run import FinalRun
from optstudy.tracking.connection import PATIENCE, Connection, hide_credentials
from optstudy.tracking.decode import (
    DUPLICATE,
    LOGGED_AGAIN,
    RESTORED,
    LoggedRun,
    StoredExperiment,
    check_run,
    decode_final_run,
    decode_logged_run,
    local_folder,
    name_in_study,
)
from optstudy.tracking.run_list_view import KEY, TAG

T = TypeVar("T")
SEARCH = "search.json"
KINDS = ("tuning", "final")  # of a study's experiments
ALL_KINDS = (*KINDS, "report")
REMOVED = "/removed-"  # in the new name of an experiment that was removed, before its ID
PAGE = 1000  # runs per request: MLflow's limit


@dataclass
class SearchFiles:
    """The files of a study's ended searches."""

    files: dict[str, bytes] = field(default_factory=dict)  # by "the search STUDY/OPTIMIZER"
    excluded: int = 0  # searches of another specification
    damaged: list[Damage] = field(default_factory=list)
    unchecked: int = 0  # files of searches that were logged before there were checksums


class Reader:
    """Reads studies from one MLflow store.

    Calls are retried for a time while the server is unreachable, and then raise an OptstudyError.
    """

    def __init__(self, uri: str, artifacts: Path | None = None, patience: float = PATIENCE) -> None:
        """Connect to ``uri``; ``artifacts`` is the artifact folder of an embedded store, None for a server."""
        self._connection = Connection(uri, patience)
        self._client = self._connection.client
        self._call = self._connection.call
        self._artifacts = artifacts
        self._experiments: dict[str, str] = {}
        # Opened by a writer and not closed, with what it has logged.
        self._open_runs: dict[str, RunContent] = {}
        self._begun: dict[str, str] = {}  # tags of a writer's study, see `Tracking.begin`

    @property
    def shown_uri(self) -> str:
        """The store's URI without user and password."""
        return hide_credentials(self._connection.uri)

    @property
    def server(self) -> str:
        """The server or database that holds the runs; "" for the workspace's own store."""
        return "" if self._artifacts else self.shown_uri

    def logged_runs(self, experiment: str, *, with_files: bool = False) -> dict[str, LoggedRun]:
        """Return an experiment's runs by name in the study, without superseded ones and those of another specification.

        Of several runs of one name, that is the one that started last.

        Args:
            experiment: Its name.
            with_files: Whether the files of finished runs are compared with their checksums; not on a server.
        """
        embedded = self._artifacts is not None
        return {
            name_in_study(run): decode_logged_run(run, embedded=embedded, with_files=with_files)
            for run, of_another in self._runs(experiment)
            if run.data.tags.get(Tag.SUPERSEDED) != "true" and not of_another
        }

    def count_of_another_specification(self, study: str) -> int:
        """Return the number of trials and final runs that an earlier study of the same name has logged."""
        tag, count = f"tags.`{Tag.SPECIFICATION}`", 0
        for experiment in filter(None, (self._find_experiment(f"{study}/{kind}") for kind in KINDS)):
            current = experiment.tags.get(Tag.SPECIFICATION, "")
            others = [f"{tag} != '{current}'", *([f"{tag} IS NULL"] if current else [])]
            count += sum(self._count_runs(experiment.experiment_id, filter_string=other) for other in others)
        return count

    def read_file(self, run: FinalRun, name: str) -> bytes:
        """Return a final run's artifact.

        Raises:
            OptstudyError: If the run has no such artifact.
        """
        data = self.find_file(run, name)
        if data is None:
            raise OptstudyError(
                f"{run.id} has no {name} in {self.shown_uri} (run {run.run_id});"
                " rerun the command that trained the run to restore it"
            )
        return data

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Return a metric's steps and values, in the order of the steps."""
        points = self._call(self._client.get_metric_history, run_id, metric)
        return sorted((point.step, point.value) for point in points)

    def find_file(self, run: FinalRun, name: str) -> bytes | None:
        """Return a final run's artifact; None if it does not exist.

        Raises:
            DamagedError: If it cannot be read, or does not agree with its checksum.
        """
        checksum = (run.checksums or {}).get(name)
        return self._read(run.run_id, run.files, name, checksum, subject=str(run.id))

    def check_files(self, run: FinalRun, names: Collection[str] | None = None) -> bool:
        """Check the content of a run's artifacts in the embedded store; return whether all recorded ones exist.

        Args:
            run: The run.
            names: The artifacts; by default all.

        Raises:
            DamagedError: If one cannot be read, or does not agree with its checksum.
        """
        exist = [
            self._read(run.run_id, run.files, name, checksum, subject=str(run.id)) is not None
            for name, checksum in (run.checksums or {}).items()
            if self._artifacts and (names is None or name in names)
        ]
        return all(exist)

    def lacks_files(self, run: FinalRun) -> bool:
        """Whether a run's folder in the embedded store is gone; no other store is asked."""
        folder = local_folder(run.files) if self._artifacts else None
        return folder is not None and not folder.is_dir()

    def search_files(self, study: str) -> SearchFiles:
        """Return the files of a study's ended searches, in the order of their start."""
        found = SearchFiles()
        for run, of_another in self._runs(f"{study}/tuning"):
            tags = run.data.tags
            is_search = tags.get(Tag.KIND) == "search" or Tag.CHECKSUMS in tags
            if not is_search or run.info.status not in ("FINISHED", "FAILED"):
                continue
            if of_another:
                found.excluded += 1
            elif tags.get(Tag.SUPERSEDED) != "true":
                self._find_search(run, f"the search {study}/{name_in_study(run)}", found)
        return found

    def _find_search(self, run: Run, subject: str, found: SearchFiles) -> None:
        checksums, problem = check_run(run)
        if problem:
            found.damaged.append(Damage(subject, problem, RESTORED, run.info.run_id))
            return
        try:
            checksum = checksums.files.get(SEARCH) if checksums else None
            data = self._read(run.info.run_id, run.info.artifact_uri or "", SEARCH, checksum, subject)
        except DamagedError as error:
            found.damaged.append(error.damage)
            return
        if data is not None:
            found.unchecked += checksums is None
            found.files[subject] = data

    def _read(self, run_id: str, files: str, name: str, checksum: str | None, subject: str) -> bytes | None:
        """Return an artifact; None if it does not exist. Local files are read directly, which is 20 times faster.

        Raises:
            DamagedError: If it cannot be read, or does not agree with its checksum.
        """
        folder = local_folder(files) if self._artifacts else None
        try:
            data = self._download(run_id, name) if folder is None else (folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            problem = f"its file {name} cannot be read ({error.strerror})"
            raise DamagedError(Damage(subject, problem, RESTORED, run_id)) from error
        if data is not None and checksum is not None and file_checksum(data) != checksum:
            remedy = RESTORED if self._artifacts else LOGGED_AGAIN
            raise DamagedError(Damage(subject, f"its file {name} {DISAGREES}", remedy, run_id))
        return data

    def _download(self, run_id: str, name: str) -> bytes | None:
        if all(artifact.path != name for artifact in self._call(self._client.list_artifacts, run_id)):
            return None
        with temporary_folder() as temporary:
            fetched = self._connection.transfer(self._client.download_artifacts, run_id, name, str(temporary))
            return Path(fetched).read_bytes()

    def studies(self) -> list[str]:
        """Return the names of the studies that have final runs, the most recent last."""
        last_start: dict[str, int] = {}
        for experiment in self._paged(self._client.search_experiments):
            study, separator, kind = experiment.name.rpartition("/")
            if separator and kind == "final":
                last_start[study] = experiment.last_update_time or 0
                newest = self._call(
                    self._client.search_runs,
                    [experiment.experiment_id],
                    max_results=1,
                    order_by=["attributes.start_time DESC"],
                )
                if newest:
                    last_start[study] = newest[0].info.start_time
        return sorted(last_start, key=lambda name: last_start[name])

    def deleted_studies(self) -> list[str]:
        """Return the names of the studies whose final runs were deleted in MLflow, which keeps the name."""
        deleted = self._paged(self._client.search_experiments, view_type=ViewType.DELETED_ONLY)
        parts = (experiment.name.rpartition("/") for experiment in deleted)
        return [study for study, _, kind in parts if study and kind == "final"]

    def final_runs(self, studies: Sequence[str]) -> tuple[list[FinalRun], dict[str, int], list[Damage]]:
        """Return the final runs of some studies, the number of excluded runs by reason, and the damaged runs."""
        found: dict[str, FinalRun | Damage] = {}
        reasons: list[str] = []
        for study in studies:
            for run, of_another in self._runs(f"{study}/final"):
                decoded = decode_final_run(run, study, of_another_specification=of_another)
                if isinstance(decoded, str):
                    reasons.append(decoded)
                    continue
                subject = str(decoded.id) if isinstance(decoded, FinalRun) else decoded.subject
                if found.pop(subject, None):  # the one that started last counts
                    reasons.append(DUPLICATE)
                found[subject] = decoded
        runs = [run for run in found.values() if isinstance(run, FinalRun)]
        return runs, Counter(reasons), [run for run in found.values() if isinstance(run, Damage)]

    def experiment_ids(self, study: str) -> dict[str, str]:
        """Return the IDs of a study's experiments by kind, tuning or final."""
        experiments = {kind: self._find_experiment(f"{study}/{kind}") for kind in KINDS}
        return {kind: experiment.experiment_id for kind, experiment in experiments.items() if experiment}

    def stored_experiments(self, study: str | None = None) -> list[StoredExperiment]:
        """Return the experiments of a study, by default of all studies, also those that were deleted in MLflow."""
        pattern = rf"(({re.escape(study) if study else '[^/]+'})/({'|'.join(ALL_KINDS)}))({REMOVED}\d+)?"
        found = self._paged(self._client.search_experiments, view_type=ViewType.ALL)
        matches = ((experiment, re.fullmatch(pattern, experiment.name)) for experiment in found)
        return [
            StoredExperiment(
                experiment.experiment_id,
                match[1],
                experiment.name,
                experiment.lifecycle_stage == LifecycleStage.DELETED,
                self._count_runs(experiment.experiment_id, run_view_type=ViewType.ALL) if study else 0,
                local_folder(experiment.artifact_location) if self._artifacts else None,
            )
            for experiment, match in matches
            if match
        ]

    def _count_runs(self, experiment_id: str, **options: Any) -> int:
        return sum(1 for _ in self._paged(self._client.search_runs, [experiment_id], **options))

    def view_key(self, experiment: str) -> str | None:
        """Return the key of the shared view of an experiment's run list; None without one."""
        return KEY if TAG in self._call(self._client.get_experiment, experiment).tags else None

    def check_not_deleted(self, studies: Sequence[str]) -> None:
        """Check that no experiment of some studies was deleted in MLflow, which keeps its name.

        Raises:
            OptstudyError: If one was deleted.
        """
        for study in studies:
            self.experiment_ids(study)

    def _find_experiment(self, name: str) -> Experiment | None:
        """Return an experiment; None if there is none.

        Raises:
            OptstudyError: If it was deleted.
        """
        experiment: Experiment | None = self._call(self._client.get_experiment_by_name, name)
        if experiment is not None and experiment.lifecycle_stage == LifecycleStage.DELETED:
            uri, study = shlex.quote(self.shown_uri), name.rpartition("/")[0]
            raise OptstudyError(
                f"experiment {name!r} was deleted in MLflow; restore it: MLFLOW_TRACKING_URI={uri} mlflow experiments"
                f" restore --experiment-id {experiment.experiment_id}; or remove study {study!r} with optstudy rm"
            )
        return experiment

    def _runs(self, name: str) -> Iterator[tuple[Run, bool]]:
        """Yield the runs of an experiment, if it exists, and whether each is of another specification.

        Those are of an earlier study with the same name. Neither run nor experiment has the tag if their study began
        before there was one.
        """
        experiment = self._find_experiment(name)
        if experiment is None:
            return
        current = experiment.tags.get(Tag.SPECIFICATION, "")
        order = ["attributes.start_time ASC"]
        for run in self._paged(self._client.search_runs, [experiment.experiment_id], order_by=order):
            yield run, run.data.tags.get(Tag.SPECIFICATION, "") != current

    def _paged(self, method: Callable[..., PagedList[T]], *arguments: Any, **options: Any) -> Iterator[T]:
        token = None
        while True:
            with _without_collection():
                page = self._call(method, *arguments, max_results=PAGE, page_token=token, **options)
            yield from page
            token = page.token
            if not token:
                return


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Pause garbage collection, which takes most of the time of reading many runs and finds nothing to collect."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
