"""On however many workers, at once or in parts: the same numbers, to the bit, and nothing twice.

The campaign kills the study itself.
"""

import os
import signal
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


def written(workspace: Path) -> dict[str, int]:
    return {name: path.stat().st_mtime_ns for name, path in rung_files(workspace).items()}


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
