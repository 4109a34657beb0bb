"""Write a study's runs to MLflow."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run, RunTag

from optstudy.errors import OptstudyError
from optstudy.records.checksums import RunContent, file_checksum, metric_checksum
from optstudy.records.io import flush, temporary_folder, write_bytes
from optstudy.records.metrics import STEP_SECONDS, Tag, epoch_metrics
from optstudy.records.plan import DatasetDescription
from optstudy.records.run import EpochRecord
from optstudy.tracking.decode import LoggedRun, StoredExperiment, local_folder
from optstudy.tracking.reader import KINDS, REMOVED, Reader
from optstudy.tracking.run_list_view import FINAL_COLUMNS, TAG, view

SEALED = ("search", "final")  # kinds of runs that have checksums
_PARENT = "mlflow.parentRunId"  # MLflow's tag of a nested run
PAGE = 1000  # metrics per batch: MLflow's limit


class Tracking(Reader):
    """Writes a study's runs to one MLflow store, and reads them back.

    If the server becomes unreachable the command fails; rerunning it resumes the work.
    """

    def begin(self, study: str, specification: str) -> bool:
        """Tag the experiments of a study, and the runs opened from now on, with the hash of its specification.

        Returns:
            Whether the experiments had the tag of another specification, whose runs are excluded from now on.
        """
        self._begun = {Tag.SPECIFICATION: specification} if specification else {}
        changed = False
        for experiment in filter(None, (self._find_experiment(f"{study}/{kind}") for kind in KINDS)):
            if experiment.tags.get(Tag.SPECIFICATION, "") != specification:
                changed = True
                self._call(
                    self._client.set_experiment_tag,
                    experiment.experiment_id,
                    Tag.SPECIFICATION,
                    specification,
                )
        return changed

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
        logged: LoggedRun | None = None,
    ) -> str:
        """Create a run, or reopen one that was interrupted; return its ID."""
        tags = {Tag.RUN: name, **tags}
        if logged is not None:
            self._call(self._client.update_run, logged.run_id, status="RUNNING")
            run_id = logged.run_id
        else:
            parents = {_PARENT: parent} if parent else {}
            run: Run = self._call(
                self._client.create_run,
                self._experiment(experiment),
                start_time=_milliseconds(started_at),
                tags={Tag.KEY: key, "mlflow.source.name": "optstudy", **self._begun, **parents, **tags},
                run_name=name,
            )
            run_id = run.info.run_id
        self._call(
            self._client.log_batch,
            run_id,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        text = {name: str(value) for name, value in params.items()}
        self._open_runs[run_id] = RunContent(params=text, tags={Tag.KEY: key, **tags})
        return run_id

    def log_epochs(
        self, run_id: str, records: Sequence[EpochRecord], heldout: Literal["validation", "test"]
    ) -> None:
        """Log the metrics of epochs. Logging an epoch twice has no effect, since its time is part of the record."""
        self.log_metrics(run_id, [metric for record in records for metric in epoch_metrics(record, heldout)])

    def log_metrics(self, run_id: str, metrics: Sequence[tuple[str, float, int, float]]) -> None:
        """Log metrics, each a name, a value, a step and a Unix time."""
        entities = [Metric(n, value, _milliseconds(at), step) for n, value, step, at in metrics]
        if run_id in self._open_runs:
            self._open_runs[run_id].metrics.update({n: value for n, value, _, _ in metrics})
        for first in range(0, len(entities), PAGE):
            self._call(self._client.log_batch, run_id, metrics=entities[first : first + PAGE])

    def log_pace(self, run_id: str, step_seconds: float, timed_at: float) -> None:
        """Log the seconds of a step to a run that has ended; logging the same again has no effect."""
        metric = Metric(STEP_SECONDS, step_seconds, _milliseconds(timed_at), 0)
        checksum = RunTag(Tag.PACE_CHECKSUM, metric_checksum(step_seconds))
        self._call(self._client.log_batch, run_id, metrics=[metric], tags=[checksum])

    def log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Log artifacts by name, or by path relative to the run's root."""
        if run_id in self._open_runs:
            self._open_runs[run_id].files.update({name: file_checksum(data) for name, data in files.items()})
        with temporary_folder() as folder:
            for name, data in files.items():
                write_bytes(folder / name, data)
            self._connection.transfer(self._client.log_artifacts, run_id, str(folder))
        copies = local_folder(self._call(self._client.get_run, run_id).info.artifact_uri)
        if copies is not None:
            for name in files:  # MLflow flushes none: a power cut could leave a finished run with empty files
                flush(copies / name)

    def log_dataset(self, run_id: str, description: DatasetDescription, context: str) -> None:
        """Log the name, checksum and sizes of the run's data set, and the part in use."""
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
        logged_before = run.outputs.model_outputs if run.outputs else ()
        for old in logged_before:
            self._call(self._client.delete_logged_model, old.model_id)
        model = self._call(
            self._client.create_logged_model, run.info.experiment_id, name=name, source_run_id=run_id
        )
        self._connection.transfer(self._client.log_model_artifacts, model.model_id, str(folder))
        self._call(self._client.finalize_logged_model, model.model_id, "READY")
        self._call(self._client.log_outputs, run_id, [LoggedModelOutput(model.model_id, step=0)])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        if run_id in self._open_runs:
            self._open_runs[run_id].tags.update(tags)
        self._call(self._client.log_batch, run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def set_parent(self, run_id: str, parent: str) -> None:
        """Nest a run below another one."""
        self.set_tags(run_id, {_PARENT: parent})

    def set_columns(self, experiment: str, columns: Sequence[str]) -> None:
        """Set the default columns of MLflow's list of an experiment's runs."""
        self._call(
            self._client.set_experiment_tag, self._experiment(experiment), TAG, view(columns, time.time())
        )

    def close_run(self, run_id: str, outcome: str, finished_at: float | None = None) -> None:
        """End a run. A diverged run counts as finished and keeps its metrics.

        A final run or a search gets the checksums of what was logged since it was opened, before it ends.
        """
        status = {"pruned": "KILLED", "interrupted": "KILLED", "failed": "FAILED"}.get(outcome, "FINISHED")
        self.set_tags(run_id, {Tag.OUTCOME: outcome})
        content = self._open_runs.get(run_id)
        if content is not None and status != "KILLED" and content.tags.get(Tag.KIND) in SEALED:
            self.set_tags(run_id, {Tag.CHECKSUMS: content.checksums().to_tag()})
        end = _milliseconds(time.time() if finished_at is None else finished_at)
        self._call(self._client.set_terminated, run_id, status=status, end_time=end)
        self._open_runs.pop(run_id, None)

    def discard_run(self, run_id: str) -> None:
        """Delete a damaged run; MLflow keeps it as deleted, and can restore it."""
        self.set_tags(run_id, {Tag.SUPERSEDED: "true"})  # in case it is restored
        self._call(self._client.delete_run, run_id)

    def remove_experiment(self, experiment: StoredExperiment) -> None:
        """Delete an experiment, renamed before, since MLflow keeps the name of a deleted one.

        A call that was interrupted can be repeated.
        """
        if REMOVED not in experiment.stored_name:
            if experiment.deleted:  # MLflow renames no deleted experiment
                self._call(self._client.restore_experiment, experiment.experiment_id)
            new_name = f"{experiment.name}{REMOVED}{experiment.experiment_id}"
            self._call(self._client.rename_experiment, experiment.experiment_id, new_name)
        elif experiment.deleted:
            return
        self._call(self._client.delete_experiment, experiment.experiment_id)
        self._experiments.pop(experiment.name, None)

    def interrupt_open_runs(self) -> None:
        """Close the open runs as interrupted; a rerun reopens them even if this fails."""
        with contextlib.suppress(OptstudyError):
            for run_id in sorted(self._open_runs):
                self.close_run(run_id, "interrupted")

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            existing = self._find_experiment(name)
            if existing is not None:
                self._experiments[name] = existing.experiment_id
            else:
                location = None if self._artifacts is None else (self._artifacts / name).as_uri()
                self._experiments[name] = self._call(
                    self._client.create_experiment, name, artifact_location=location, tags=self._begun
                )
                if name.endswith("/final"):
                    self.set_columns(name, FINAL_COLUMNS)
        return self._experiments[name]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
