"""A study that retrained the best trials of its searches and timed its rows, finished once for all tests."""

import contextlib
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import tiny
from mlflow import MlflowClient
from mlflow.entities import Run

from optstudy.study.events import Event, Notice
from optstudy.tracking import embedded

# Unreliable's first trial fails, so that its search has nothing to choose among. Its runs are logged first, and
# come last in the comparison.
CHOOSING: Mapping[str, Any] = {
    "optimizers": ("unreliable", "sgd"),
    "trials": 2,
    "finalists": 2,
    "finalist_seeds": 2,
    "samples": 20,
    "eigen_last": 2,
}


# Artifacts of a final run.
FILES = {
    "gradient_norm.png",
    "confusion.png",
    "predictions.npz",
    "weights.pt",
    "epochs.json",
    "plan.json",
    "study.json",
}
CURVATURE_FILES = {
    "eigen_ratio.png",
    "spectrum.png",
    "landscape_1d.png",
    "landscape_2d.png",
    "eigen.npz",
    "analysis.npz",
}


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Path]:
    """Work in a folder, whose files become importable for that long."""
    path = [*sys.path]
    with contextlib.chdir(folder):
        try:
            yield folder
        finally:
            sys.path[:] = path


def finish(once: Callable[[str, Callable[[Path], None]], Path], empty_store: Path) -> Path:
    """Return the workspace of the finished study; only to be read, or copied."""

    def make(folder: Path) -> None:
        shutil.copytree(empty_store, folder, dirs_exist_ok=True)
        tiny.write(folder)
        with inside(folder):
            list(tiny.study(**CHOOSING).run())

    return once("chosen", make)


def copy(finished: Path, folder: Path) -> Path:
    """Return a copy that may be changed."""
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    _artifact_repos_cache.clear()  # by run, and the runs of every copy have the same names
    shutil.copytree(finished, folder)
    embedded.update_moved_paths(folder)
    return folder


def runs(workspace: Path, kind: str) -> dict[str, Run]:
    """Return the study's runs by name; a name must be there once."""
    client = MlflowClient(embedded.uri(workspace))
    found = client.get_experiment_by_name(f"tiny/{kind}")
    assert found is not None
    listed = client.search_runs([found.experiment_id])
    assert len({run.info.run_name for run in listed}) == len(listed)
    return {run.info.run_name: run for run in listed}


def logged(workspace: Path, *kinds: str) -> dict[str, Any]:
    """Return all that MLflow has of the study: by run, what it is, tags, parameters, histories and files."""
    client = MlflowClient(embedded.uri(workspace))
    found: dict[str, Any] = {}
    for kind in kinds or ("tuning", "final"):
        for name, run in runs(workspace, kind).items():
            files = sorted((file.path, file.file_size) for file in client.list_artifacts(run.info.run_id))
            points = {
                metric: [
                    (point.step, point.value, point.timestamp)
                    for point in client.get_metric_history(run.info.run_id, metric)
                ]
                for metric in run.data.metrics
            }
            found[name] = (
                run.info.to_proto().SerializeToString(),
                run.data.tags,
                run.data.params,
                points,
                files,
            )
    return found


def written(workspace: Path) -> dict[str, int]:
    """Return the rungs and paces on disk, each with the moment at which it was written."""
    folder = workspace / "tuning" / "studies" / "tiny" / "rungs"
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.json")}


def artifact(workspace: Path, run: Run, name: str) -> bytes:
    return Path(MlflowClient(embedded.uri(workspace)).download_artifacts(run.info.run_id, name)).read_bytes()


def best(workspace: Path, optimizer: str = "sgd") -> dict[str, Any]:
    """Return the file of a search's best configuration."""
    content: dict[str, Any] = json.loads(
        (workspace / "tuning" / "best" / "tiny" / f"{optimizer}.json").read_text()
    )
    return content


def rung_times(workspace: Path, study: str = "tiny") -> dict[Path, int]:
    """Return the rungs on disk, each with the time at which it was written."""
    folder = workspace / "tuning" / "studies" / study / "rungs"
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("[0-9]*.json")}


def texts(events: Iterable[Event], *, problem: bool = False) -> list[str]:
    """Return the texts of notices, or of problems."""
    return [event.text for event in events if isinstance(event, Notice) and event.problem == problem]


def change_database(workspace: Path, *statements: str) -> None:
    """Change the tracking database by SQL, as no program does."""
    with closing(sqlite3.connect(embedded.database(workspace))) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def drop_checksums(workspace: Path) -> None:
    """Make the runs those of a version that recorded no checksums."""
    change_database(workspace, "DELETE FROM tags WHERE key LIKE 'optstudy.checksum%'")
