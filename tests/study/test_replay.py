"""However a study was interrupted, and on however many workers: the same numbers, to the bit, and nothing twice."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from outcomes import outcome, rung_files

from optstudy.execution.local import LocalWorkers
from optstudy.study.driver import Study
from optstudy.study.events import WorkDone


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

    for count, event in enumerate(event for event in study.run() if isinstance(event, WorkDone)):
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
