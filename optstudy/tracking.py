"""What goes into MLflow and comes back. The only importer of mlflow."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset as DatasetEntity,
)
from mlflow.entities import (
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException

from optstudy import store
from optstudy.errors import OptstudyError, UsageError

if TYPE_CHECKING:  # torch takes seconds to import, and reading needs none of it
    from optstudy.data import Description
    from optstudy.training import EpochRecord

T = TypeVar("T")
PATIENCE = 60.0  # seconds that a server may stay silent, in all
PAGE = 1000  # runs a request, and metrics a batch: MLflow's limits

_QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # MLflow's own retries take four minutes to give up
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

for _name in ("alembic", "mlflow"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class FinalRun:
    """One finished final run, as read back from MLflow."""

    run_id: str
    study: str
    optimizer: str
    config: str  # best, paper, default
    seed: int
    outcome: str  # completed or diverged
    train_accuracy: float  # fraction, exact sweep over the training images
    test_accuracy: float  # fraction
    paper_setting: bool  # model and data are the paper's, so its Table I may stand beside ours
    seconds: float
    gradient_work: float
    params: dict[str, str]  # hyperparameters as MLflow returns them, strings


@dataclass(frozen=True)
class FinalRuns:
    """The final runs of some studies, and what was left out."""

    runs: tuple[FinalRun, ...]
    excluded: dict[str, int]  # why -> how many runs: unfinished, failed, superseded


@dataclass(frozen=True)
class Known:
    """A run that MLflow already has."""

    run_id: str
    key: str  # of everything that determines the run
    finished: bool
    ended: bool  # finished, or a trial that was pruned or failed


class Tracking:
    """Writes a study's runs to one MLflow store and reads them back.

    A server that stops answering is asked again for a minute; then the work stops with one clear line, and
    the same command goes on later.
    """

    def __init__(self, uri: str, artifacts: Path | None = None, patience: float = PATIENCE) -> None:
        """Connect to ``uri``; ``artifacts`` is where an embedded store keeps files, None lets a server decide."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self.uri = uri
        self._artifacts = artifacts
        self._patience = patience
        self._client = MlflowClient(tracking_uri=uri)
        self._experiments: dict[str, str] = {}
        self._gave_up_at: float | None = None

    @property
    def shown_uri(self) -> str:
        """The store's URI without user and password."""
        return shown(self.uri)

    def known_runs(self, experiment: str) -> dict[str, Known]:
        """Return an experiment's runs by name, those that were superseded apart."""
        found = self._call(self._client.get_experiment_by_name, experiment)
        if found is None:
            return {}
        return {
            run.info.run_name: _known(run)
            for run in self._pages([found.experiment_id])
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
        experiments = self._call(mlflow_experiments, self._client)
        last: dict[str, int] = {}
        for experiment in experiments:
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
            for run in self._pages([experiment.experiment_id]):
                reason = _exclusion(run)
                if reason:
                    excluded[reason] = excluded.get(reason, 0) + 1
                else:
                    runs.append(_final_run(run))
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

    def _pages(self, experiments: list[str]) -> Iterator[Run]:
        token = None
        while True:
            page = self._call(
                self._client.search_runs, experiments, max_results=PAGE, page_token=token,
                order_by=["attributes.start_time ASC"],
            )  # fmt: skip
            yield from page
            token = page.token
            if not token:
                return

    def _call(self, method: Callable[..., T], *arguments: Any, **options: Any) -> T:
        silent_since = self._gave_up_at
        while True:
            try:
                return method(*arguments, **options)
            except (MlflowException, requests.RequestException) as error:
                if not _unreachable(error):
                    raise OptstudyError(
                        f"MLflow at {shown(self.uri)} refused: {_first_line(error)}"
                    ) from error
                now = time.monotonic()
                silent_since = silent_since or now
                if now - silent_since >= self._patience:
                    self._gave_up_at = silent_since
                    raise OptstudyError(
                        f"the tracking server {shown(self.uri)} has not answered for {self._patience:.0f} s;"
                        " start it and give the same command again: nothing finished is lost"
                    ) from error
                time.sleep(min(2.0, self._patience / 10))


def open_tracking(workspace: Path, tracking_uri: str | None) -> tuple[Tracking, str | None]:
    """Open an MLflow server, by default MLFLOW_TRACKING_URI, or the workspace's own store; say what was mended."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return Tracking(uri), None
    try:
        store.database(workspace).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        folder = store.database(workspace).parent
        raise OptstudyError(f"cannot write {folder}: {error.strerror}; choose another --workspace") from error
    notice = store.mend_moved(workspace)
    return Tracking(store.uri(workspace), store.artifacts(workspace)), notice


def open_written(workspace: Path, tracking_uri: str | None) -> Tracking:
    """Open what studies have written, as `open_tracking` does, but make nothing where there is nothing.

    Raises:
        UsageError: If the workspace has no store.
    """
    if not (tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or store.database(workspace).exists()):
        raise UsageError(f"no study has run in {workspace.resolve()} yet; run: optstudy study --preset quick")
    return open_tracking(workspace, tracking_uri)[0]


def mlflow_experiments(client: MlflowClient) -> list[Any]:
    """All experiments of a store."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_experiments(max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def save_model(model: Any, example: Any, folder: Path) -> None:
    """Write a torch model as MLflow loads it: a traced graph, no pickle, with signature and input example.

    Args:
        model: The module, on the CPU, in eval mode.
        example: Inputs as the model takes them, a tensor of shape ``(n, ...)``.
        folder: Where to; must not exist.
    """
    import mlflow.pytorch
    import torch
    from mlflow.models import infer_signature

    with torch.no_grad():
        outputs = model(example).numpy()
    mlflow.pytorch.save_model(
        model,
        str(folder),
        signature=infer_signature(example.numpy(), outputs),
        input_example=example.numpy(),
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"mlflow=={mlflow.__version__}"],
        serialization_format="pt2",
    )


def shown(uri: str) -> str:
    """A URI without user and password."""
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return uri.replace(user + at, "", 1)  # putting the parts together again would cost sqlite:/// its slashes


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


def _known(run: Run) -> Known:
    finished = run.info.status == "FINISHED"
    ended = finished or run.data.tags.get("optstudy.outcome") in ("pruned", "failed")
    return Known(run.info.run_id, run.data.tags.get("optstudy.key", ""), finished, ended)


def _exclusion(run: Run) -> str | None:
    outcome = run.data.tags.get("optstudy.outcome", "")
    if run.data.tags.get("optstudy.superseded") == "true":
        return "superseded"
    if run.info.status == "FAILED" or outcome == "failed":
        return "failed"
    if run.info.status != "FINISHED" or "final/test_accuracy_pct" not in run.data.metrics:
        return "unfinished"
    return None


def _final_run(run: Run) -> FinalRun:
    tags, metrics, params = run.data.tags, run.data.metrics, run.data.params
    return FinalRun(
        run_id=run.info.run_id,
        study=tags["optstudy.study"],
        optimizer=params["optimizer"],
        config=params["config"],
        seed=int(params["seed"]),
        outcome=tags["optstudy.outcome"],
        train_accuracy=round(metrics["final/train_accuracy_pct"] / 100, 12),
        test_accuracy=round(metrics["final/test_accuracy_pct"] / 100, 12),
        paper_setting=tags.get("optstudy.paper_setting") == "true",
        seconds=metrics["final/seconds"],
        gradient_work=metrics["final/gradient_work"],
        params={name: value for name, value in params.items() if name not in ("optimizer", "config", "seed")},
    )


def _unreachable(error: BaseException | None) -> bool:
    while error is not None:
        # RetryError: MLflow's client saw 429, 500, 502, 503 or 504, and was told not to ask again itself.
        if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.RetryError):
            return True
        response = getattr(error, "response", None)
        if response is not None and getattr(response, "status_code", 0) in (502, 503, 504):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
