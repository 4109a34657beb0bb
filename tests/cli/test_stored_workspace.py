"""A workspace that the version before made goes on, is logged again and is read, with nothing trained again.

It holds the study `old` of images, a model and an optimizer of the user's own: 4 trials, 2 finalists and 2 seeds of
two optimizers. Its figures and the models for MLflow were left out.
"""

import importlib.metadata
import json
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from commands import Run

from optstudy.execution.flows import Task
from optstudy.execution.pool import WorkerPool
from optstudy.tracking import embedded

STORED = Path(__file__).parents[1] / "stored" / "workspace-0.0.tar.xz"
TRAINING = {"run_verified_rung", "time_steps"}  # the tasks whose results are stored
MEASURING = "measure_final_curvature"  # whose results are stored in another format


class Watched(tiny.InProcessWorkers):
    """Workers that must not be asked for a number that is there."""

    tasks: list[str]

    def submit(self, ticket: int, task: Task) -> None:
        self.tasks.append(task.function.__name__)
        super().submit(ticket, task)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The workspace, and the current folder, under the versions that it was made by."""
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    _artifact_repos_cache.clear()  # by run, and the runs of every copy have the same names
    folder = tmp_path / "workspace"
    with tarfile.open(STORED) as archive:
        archive.extractall(folder, filter="data")
    facts = json.loads((folder / "tuning/studies/old/specification.json").read_text())["facts"]
    installed = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: facts["versions"].get(name) or installed(name)
    )
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")
    monkeypatch.chdir(folder)
    path = [*sys.path]
    yield folder
    sys.path[:] = path


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks that workers were given."""
    given: list[str] = []
    monkeypatch.setattr(Watched, "tasks", given, raising=False)
    monkeypatch.setattr(WorkerPool, "workers", lambda *_, **__: Watched())
    return given


def written(folder: Path) -> dict[str, int]:
    """Return when each stored result was written."""
    return {
        str(path): path.stat().st_mtime_ns for path in (folder / "tuning/studies/old/rungs").rglob("*.json")
    }


def compared(run: Run, workspace: Path) -> Any:
    ended = run("compare", "--study", "old", "--workspace", str(workspace), "--json")
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


def without_curvature(table: Any) -> Any:
    """Return a comparison without what depends on the format of curvature."""
    rows = [{name: value for name, value in row.items() if name != "geometry"} for row in table["rows"]]
    return {**table, "rows": rows, "excluded": {}}


def test_the_study_goes_on_by_the_same_command_and_only_measures_curvature_again(
    stored: Path, tasks: list[str], run: Run
) -> None:
    before, table = written(stored), compared(run, stored)

    ended = run("study", "--study", "old")

    assert ended.status == 0, ended.err
    assert not TRAINING & set(tasks)
    assert tasks.count(MEASURING) == tasks.count("draw_run") == 4
    assert "the curvature of 4 finished runs was measured by another version of optstudy" in " ".join(
        ended.err.split()
    )
    assert written(stored) == before
    after = compared(run, stored)
    assert without_curvature(after) == without_curvature(table)
    assert after["excluded"] == {"superseded": 4}

    tasks.clear()
    assert run("study", "--study", "old").status == 0
    assert not {*TRAINING, MEASURING, "draw_run"} & set(tasks)
    assert compared(run, stored) == after


@pytest.mark.slow
def test_without_mlflows_runs_all_is_logged_again_from_what_is_stored(
    stored: Path, empty_store: Path, tasks: list[str], run: Run
) -> None:
    before = written(stored)
    (stored / "before").mkdir()
    (stored / "mlruns").rename(stored / "before" / "mlruns")
    shutil.copytree(empty_store / "mlruns", stored / "mlruns")  # as the command makes it, in less time

    ended = run("study", "--study", "old")

    assert ended.status == 0, ended.err
    assert not TRAINING & set(tasks)
    assert tasks.count(MEASURING) == tasks.count("draw_run") == 4
    assert written(stored) == before
    tables = [without_curvature(compared(run, folder)) for folder in (stored, stored / "before")]
    assert tables[0] == tables[1]
    assert len([*embedded.artifacts(stored).rglob("weights.pt")]) == 4


@pytest.mark.slow
def test_begun_anew_under_its_name_with_other_settings_its_runs_stand_in_no_table(
    stored: Path, run: Run
) -> None:
    shutil.rmtree("tuning/studies/old")
    settings = {**tiny.SETTINGS, "trials": 2, "tune_epochs": 1, "train_epochs": 1, "seeds": 1}
    tiny.write(stored)

    list(tiny.study("old", **settings).run())

    table = compared(run, stored)
    assert [(row["optimizer"], row["seeds"]) for row in table["rows"]] == [("sgd", 1)]
    assert [search["optimizer"] for search in table["searches"]] == ["sgd"]
    assert table["excluded"] == {"of another specification": 4, "of another specification's searches": 2}


def test_it_is_reported_and_what_is_absent_there_is_said_to_be_not_recorded(stored: Path, run: Run) -> None:
    ended = run("report", "--study", "old", "--output", "report")

    assert ended.status == 0, ended.err
    page = (stored / "report/index.html").read_text()
    assert "lion" in page
    assert "the commands that reproduce them are not recorded" in page  # runs kept no study.json
    assert [one["optimizer"] for one in json.loads((stored / "report/runs.json").read_text())["runs"]] == [
        *["sgd"] * 2,
        *["lion"] * 2,
    ]
