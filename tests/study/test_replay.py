"""However a study was interrupted, and on however many workers: the same numbers, to the bit, and nothing twice."""

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import tiny
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from optstudy.execution.local import LocalWorkers
from optstudy.study.driver import Study
from optstudy.study.events import Progress
from optstudy.tracking import embedded

CLOCKS = {
    "seconds",
    "finished_at",
    "epoch_seconds",
    "final/seconds",
    "final/step_seconds",
    "step_seconds",
    "timed_at",
    "final/seconds_to_target",
}  # readings that differ from run to run


def timeless(value: Any) -> Any:
    """Return JSON without clock readings."""
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in CLOCKS}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def rung_files(workspace: Path) -> dict[str, Path]:
    folder = workspace / "tuning" / "studies" / "tiny" / "rungs"
    return {str(path.relative_to(folder)): path for path in folder.glob("*/[0-9]*.json")}


def logged(client: MlflowClient, run: Run) -> dict[str, Any]:
    """Return what MLflow has of a run: every point of every history, and the data among its artifacts."""
    run_id = run.info.run_id
    histories = {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run_id, name))
        for name in run.data.metrics
        if name not in CLOCKS
    }
    content = {
        found.path: Path(client.download_artifacts(run_id, found.path)).read_bytes()
        for found in client.list_artifacts(run_id)
        if not found.path.endswith(".png")
    }
    data: dict[str, Any] = {}
    for name, stored in content.items():
        if name.endswith(".json"):
            data[name] = timeless(json.loads(stored))
        elif name.endswith(".npz"):
            with np.load(io.BytesIO(stored)) as arrays:
                data[name] = {key: (str(arrays[key].dtype), arrays[key].tobytes()) for key in arrays}
        else:
            data[name] = cases.bits(torch.load(io.BytesIO(stored), weights_only=True))
    return {"status": run.info.status, "params": run.data.params, "metrics": histories, "data": data}


def outcome(workspace: Path) -> dict[str, Any]:
    """Return everything that a study leaves and that must not depend on how it was run."""
    client = MlflowClient(embedded.uri(workspace))
    found: dict[str, Any] = {}
    for kind in ("tuning", "final"):
        experiment = client.get_experiment_by_name(f"tiny/{kind}")
        assert experiment is not None
        for run in client.search_runs([experiment.experiment_id]):
            assert run.info.run_name not in found  # once
            found[run.info.run_name] = logged(client, run)
    for path in sorted((workspace / "tuning" / "best" / "tiny").glob("*.json")):
        found[path.name] = {**json.loads(path.read_text()), "commit": None}
    found["rungs"] = {
        name: timeless(json.loads(path.read_text())) for name, path in rung_files(workspace).items()
    }
    found["table"] = timeless(Study("tiny", workspace=workspace).compare().to_dict())
    return found


@pytest.fixture
def left_alone(finished_copy: Path) -> dict[str, Any]:
    """The outcome of the study that ran to its end, on two workers."""
    Study("tiny").compare()  # opening a copy mends where its artifacts lie
    return outcome(finished_copy)


@pytest.fixture
def another(workspace: Path, left_alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace beside it, and the current folder."""
    assert left_alone
    monkeypatch.chdir(workspace)
    return workspace


def start_until(rungs: int, workspace: Path) -> None:
    """Run the study until some rungs more are on disk, then kill it with its workers."""
    wanted = len(rung_files(workspace)) + rungs
    arguments = ["study", "--study", "tiny", "--jobs", "1", *tiny.options(**tiny.WHOLE)]
    driver = tiny.start(arguments, workspace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(rung_files(workspace)) < wanted and driver.poll() is None:
        time.sleep(0.01)
    assert driver.returncode is None  # killed before its end
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


def written(workspace: Path) -> dict[str, int]:
    return {name: path.stat().st_mtime_ns for name, path in rung_files(workspace).items()}


@pytest.mark.slow
def test_a_study_killed_at_any_moment_goes_on_to_the_same_end(
    another: Path, left_alone: dict[str, Any]
) -> None:
    before: dict[str, int] = {}
    for rungs in (1, 9, 14):  # of 34: in the first batch, in a later one, when final runs are under way
        start_until(rungs, another)
        assert before.items() <= written(another).items()  # nothing that was finished is computed again
        before = written(another)

    list(tiny.study(**tiny.WHOLE).run())

    assert before.items() <= written(another).items()
    assert outcome(another) == left_alone


class WatchedStudy(Study):
    """A study whose workers can be reached."""

    workers: LocalWorkers

    def _workers(self) -> LocalWorkers:
        workers = super()._workers()
        assert isinstance(workers, LocalWorkers)
        self.workers = workers
        return workers


@pytest.mark.slow
def test_workers_that_are_killed_cost_the_rung_they_were_on(
    another: Path, left_alone: dict[str, Any]
) -> None:
    study = WatchedStudy("tiny", jobs=1, **{**tiny.SETTINGS, **tiny.WHOLE})
    moments: Iterator[int] = iter((2, 21))
    moment = next(moments)

    for count, event in enumerate(event for event in study.run() if isinstance(event, Progress)):
        assert event.seconds >= 0
        if count == moment:
            os.kill(study.workers.pids[0], signal.SIGKILL)
            moment = next(moments, -1)

    assert moment == -1
    assert outcome(another) == left_alone


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_numbers(another: Path, left_alone: dict[str, Any]) -> None:
    list(tiny.study(jobs=3, **tiny.WHOLE).run())

    assert outcome(another) == left_alone


@pytest.mark.slow
def test_trials_and_seeds_added_later_equal_all_at_once(another: Path, left_alone: dict[str, Any]) -> None:
    for trials in (2, 4):
        list(tiny.study(**{**tiny.WHOLE, "trials": trials}).run("tuning"))
    before = written(another)
    list(tiny.study(**tiny.WHOLE, seeds=1).run())

    list(tiny.study(**tiny.WHOLE).run())

    assert before.items() <= written(another).items()
    assert outcome(another) == left_alone
