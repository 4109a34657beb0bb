"""A study's runs, written to MLflow and read back."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import (
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.store.entities import PagedList

from optstudy.errors import OptstudyError
from optstudy.tracking.connection import PATIENCE, Connection, shown
from optstudy.tracking.records import (
    FinalRun,
    FinalRuns,
    Known,
    Predictions,
    exclusion_of,
    final_run_of,
    known_of,
    local_folder,
)

if TYPE_CHECKING:  # torch takes seconds to import, and reading needs none of it
    from optstudy.data import Description
    from optstudy.training import EpochRecord

T = TypeVar("T")
PREDICTIONS = "predictions.npz"
PAGE = 1000  # runs a request, and metrics a batch: MLflow's limits


class Tracking:
    """Writes a study's runs to one MLflow store and reads them back.

    A server that stops answering is asked again for a minute; then the work stops with one clear line, and
    the same command goes on later.
    """

    def __init__(self, uri: str, artifacts: Path | None = None, patience: float = PATIENCE) -> None:
        """Connect to ``uri``; ``artifacts`` is where an embedded store keeps files, None lets a server decide."""
        self._connection = Connection(uri, patience)
        self._client = self._connection.client
        self._call = self._connection.call
        self._artifacts = artifacts
        self._experiments: dict[str, str] = {}

    @property
    def shown_uri(self) -> str:
        """The store's URI without user and password."""
        return shown(self._connection.uri)

    @property
    def server(self) -> str:
        """Where a server or a database of the user's own keeps the runs; "" for the workspace's own store."""
        return "" if self._artifacts else self.shown_uri

    def known_runs(self, experiment: str) -> dict[str, Known]:
        """Return an experiment's runs by name, those that were superseded apart."""
        found = self._call(self._client.get_experiment_by_name, experiment)
        if found is None:
            return {}
        return {
            run.info.run_name: known_of(run, embedded=self._artifacts is not None)
            for run in self._runs(found.experiment_id)
            if run.data.tags.get("optstudy.superseded") != "true"
        }

    def open_run(
        self,
        experiment: str,
        name: str,
        *,
        key: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        started_at: float,
        parent: str | None = None,
        known: Known | None = None,
    ) -> str:
        """Create a run, or reopen one that was interrupted; return its ID."""
        if known is not None:
            self._call(self._client.update_run, known.run_id, status="RUNNING")
            run_id = known.run_id
        else:
            parents = {"mlflow.parentRunId": parent} if parent else {}
            run: Run = self._call(
                self._client.create_run,
                self._experiment(experiment),
                start_time=_milliseconds(started_at),
                tags={"optstudy.key": key, "mlflow.source.name": "optstudy", **parents, **tags},
                run_name=name,
            )
            run_id = run.info.run_id
        self._call(
            self._client.log_batch,
            run_id,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        return run_id

    def log_epochs(
        self, run_id: str, records: Sequence[EpochRecord], heldout: Literal["validation", "test"]
    ) -> None:
        """Log what epochs recorded. Logging one again changes nothing: its time stands in the record."""
        self.log_metrics(run_id, [metric for record in records for metric in _epoch_metrics(record, heldout)])

    def log_metrics(self, run_id: str, metrics: Sequence[tuple[str, float, int, float]]) -> None:
        """Log metrics, each a name, a value, a step and a Unix time."""
        entities = [Metric(n, value, _milliseconds(at), step) for n, value, step, at in metrics]
        for first in range(0, len(entities), PAGE):
            self._call(self._client.log_batch, run_id, metrics=entities[first : first + PAGE])

    def log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Log artifacts by name."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
            self._call(self._client.log_artifacts, run_id, folder)

    def read_file(self, run_id: str, name: str) -> bytes:
        """Return a run's artifact.

        Raises:
            OptstudyError: If the run has none of that name.
        """
        if not self._has(run_id, name):
            raise OptstudyError(
                f"run {run_id} has no {name} in {self.shown_uri}; the command that made the run writes it again"
            )
        with tempfile.TemporaryDirectory() as folder:
            return Path(self._call(self._client.download_artifacts, run_id, name, folder)).read_bytes()

    def predictions(self, final: FinalRuns) -> dict[str, Predictions]:
        """Return what runs predicted, by their IDs; nothing of a run without predictions.

        Raises:
            OptstudyError: If a file of predictions cannot be read.
        """
        found = {}
        for run in final.runs:
            data = self._read(run, PREDICTIONS)
            if data is not None:
                try:
                    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                        found[run.run_id] = Predictions(arrays["labels"], arrays["predicted"])
                except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
                    raise OptstudyError(f"{PREDICTIONS} of run {run.run_id} is damaged ({error})") from error
        return found

    def _read(self, run: FinalRun, name: str) -> bytes | None:
        """Return a run's artifact, None without one; past MLflow where it lies on this machine, 20 times as fast."""
        folder = local_folder(run.files) if self._artifacts else None
        if folder is not None:
            return (folder / name).read_bytes() if (folder / name).is_file() else None
        return self.read_file(run.run_id, name) if self._has(run.run_id, name) else None

    def _has(self, run_id: str, name: str) -> bool:
        return name in {found.path for found in self._call(self._client.list_artifacts, run_id)}

    def log_dataset(self, run_id: str, description: Description, context: str) -> None:
        """Name the run's data: where it comes from, its checksum, and which part of it."""
        counts = {"train": description.train, "test": description.test}
        entity = DatasetEntity(
            name=description.name,
            digest=description.checksum[:16],
            source_type="optstudy",
            source=description.name,
            profile=json.dumps({**counts, "sha256": description.checksum}),
        )
        inputs = [DatasetInput(entity, [InputTag("mlflow.data.context", context)])]
        self._call(self._client.log_inputs, run_id, inputs)

    def log_model(self, run_id: str, folder: Path, name: str) -> None:
        """Log a folder that `save_model` wrote as the run's model, to be loaded by `mlflow.pytorch`."""
        run: Run = self._call(self._client.get_run, run_id)
        for old in run.outputs.model_outputs if run.outputs else ():  # of a run that is written again
            self._call(self._client.delete_logged_model, old.model_id)
        model = self._call(
            self._client.create_logged_model, run.info.experiment_id, name=name, source_run_id=run_id
        )
        self._call(self._client.log_model_artifacts, model.model_id, str(folder))
        self._call(self._client.finalize_logged_model, model.model_id, "READY")
        self._call(self._client.log_outputs, run_id, [LoggedModelOutput(model.model_id, step=0)])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        self._call(self._client.log_batch, run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def close_run(self, run_id: str, outcome: str, finished_at: float | None = None) -> None:
        """End a run. A diverged one is finished, and counts with what it has."""
        status = {"pruned": "KILLED", "interrupted": "KILLED", "failed": "FAILED"}.get(outcome, "FINISHED")
        self.set_tags(run_id, {"optstudy.outcome": outcome})
        end = _milliseconds(time.time() if finished_at is None else finished_at)
        self._call(self._client.set_terminated, run_id, status=status, end_time=end)

    def interrupt_run(self, run_id: str) -> None:
        """Close a run that stops in the middle; the next start reopens it, closed or not."""
        with contextlib.suppress(OptstudyError):
            self.close_run(run_id, "interrupted")

    def studies(self) -> list[str]:
        """Names of the studies that have final runs, the one written last at the end."""
        last: dict[str, int] = {}
        for experiment in self._paged(self._client.search_experiments):
            study, separator, kind = experiment.name.rpartition("/")
            if separator and kind == "final":
                last[study] = experiment.last_update_time or 0
                newest = self._call(
                    self._client.search_runs,
                    [experiment.experiment_id],
                    max_results=1,
                    order_by=["attributes.start_time DESC"],
                )
                if newest:
                    last[study] = newest[0].info.start_time
        return sorted(last, key=lambda name: last[name])

    def final_runs(self, studies: Sequence[str]) -> FinalRuns:
        """Read the final runs of some studies; those that cannot be compared are counted, not returned."""
        runs: list[FinalRun] = []
        excluded: dict[str, int] = {}
        for study in studies:
            experiment = self._call(self._client.get_experiment_by_name, f"{study}/final")
            if experiment is None:
                continue
            for run in self._runs(experiment.experiment_id):
                reason = exclusion_of(run)
                if reason:
                    excluded[reason] = excluded.get(reason, 0) + 1
                else:
                    runs.append(final_run_of(run))
        return FinalRuns(tuple(runs), excluded)

    def experiment_ids(self, study: str) -> dict[str, str]:
        """IDs of a study's experiments by kind: tuning, final."""
        names = {kind: f"{study}/{kind}" for kind in ("tuning", "final")}
        found = {kind: self._call(self._client.get_experiment_by_name, name) for kind, name in names.items()}
        return {kind: experiment.experiment_id for kind, experiment in found.items() if experiment}

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self._call(self._client.get_experiment_by_name, name)
            if found is not None:
                self._experiments[name] = found.experiment_id
            else:
                location = None if self._artifacts is None else (self._artifacts / name).as_uri()
                self._experiments[name] = self._call(
                    self._client.create_experiment, name, artifact_location=location
                )
        return self._experiments[name]

    def _runs(self, experiment: str) -> Iterator[Run]:
        return self._paged(self._client.search_runs, [experiment], order_by=["attributes.start_time ASC"])

    def _paged(self, method: Callable[..., PagedList[T]], *arguments: Any, **options: Any) -> Iterator[T]:
        token = None
        while True:
            page = self._call(method, *arguments, max_results=PAGE, page_token=token, **options)
            yield from page
            token = page.token
            if not token:
                return


def _epoch_metrics(record: EpochRecord, heldout: str) -> list[tuple[str, float, int, float]]:
    values = {
        "train/loss": record.train_loss,
        "train/accuracy": record.train_accuracy,
        f"{heldout}/loss": record.heldout_loss,
        f"{heldout}/accuracy": record.heldout_accuracy,
        "gradient_norm": record.gradient_norm,
        "full_gradient_norm": record.full_gradient_norm,
        "train/exact_loss": record.exact_loss,
        "train/exact_accuracy": record.exact_accuracy,
        "epoch_seconds": record.seconds,
    }
    return [(n, v, record.epoch, record.finished_at) for n, v in values.items() if v is not None]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
