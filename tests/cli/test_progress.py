"""What a running study shows on standard error."""

from collections.abc import Iterator
from dataclasses import replace

import cases
import evidence
import pytest
from rich.progress import Task, TaskID

from optstudy.cli.progress import Remaining, duration, format_event, watch
from optstudy.errors import OptstudyError
from optstudy.records.search import SearchResult, Trial
from optstudy.study.estimate import StudyEstimate
from optstudy.study.events import Event, Notice, Resumed, RunEnded, TrialEnded, WorkDone

TRIAL = Trial(3, {"lr": 0.012345, "nesterov": True}, "completed", 0.98765, (0.9, 0.98765), 2, 20.0)
SEARCH = SearchResult("quick", evidence.space("sgd"), "accuracy", (TRIAL,), TRIAL)
ESTIMATE = StudyEstimate(
    data=cases.DESCRIPTION,
    rehearsals={"sgd": replace(cases.REHEARSAL, step_seconds=0.0012)},
    jobs=2,
    trials=4,
    trial_seconds={"sgd": 100.0},
    runs=3,
    run_seconds={"sgd": 7200.0},
    disk_bytes=3_400_000,
)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (360_000, "100.0 h")],
)
def test_a_duration_has_seconds_minutes_or_hours(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Notice("moved"), "note: moved"),
        (TrialEnded("sgd", TRIAL), "sgd/003 completed 0.9877 (lr 0.01235, nesterov True)"),
        (Resumed(1708, 3), "1,708 trials and 3 final runs have ended before; reading them"),
        (SEARCH, "sgd: best is trial 3 with lr 0.01235, nesterov True"),
        (
            replace(
                SEARCH, trials=(TRIAL, replace(TRIAL, number=4), replace(TRIAL, number=5, params={"lr": 1.0}))
            ),
            "sgd: best is trial 3 with lr 0.01235, nesterov True (3 trials, 2 distinct configurations)",
        ),
        (
            RunEnded("sgd/seed-0", "completed", 0.98765, 0.9),
            "sgd/seed-0 completed: train 98.77%, test 90.00%",
        ),
    ],
)
def test_an_event_is_one_line(event: Event, line: str) -> None:
    assert format_event(event) == line


def test_a_log_file_has_the_estimate_the_share_done_and_each_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch([ESTIMATE, Notice("moved"), WorkDone("sgd/003", 3650.0), WorkDone("sgd/004", 3650.0)])

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "sgd          4 trials   2 min, 3 final runs   2.0 h  (1.2 ms a step)",
        "about 61 min with 2 workers, 3 MB of disk, if nothing is done yet",
        "note: moved",
        "50 % done",
        "100 % done",
    ]


def test_of_what_was_finished_before_the_share_and_one_line_for_each_search_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = WorkDone("sgd/003", 5400.0, already_done=True), WorkDone("sgd/004", 1900.0)

    watch([ESTIMATE, Resumed(1, 0), TrialEnded("sgd", TRIAL, already_done=True), old, SEARCH, new])

    assert capsys.readouterr().err.splitlines()[2:] == [
        "1 trial and 0 final runs have ended before; reading them",
        "74 % done",
        "sgd: best is trial 3 with lr 0.01235, nesterov True",
        "100 % done",
    ]


def test_the_time_left_is_estimated_from_the_work_of_this_command_alone() -> None:
    def left(before: float) -> str:
        task = Task(TaskID(0), "sgd/004", 100.0, 60.0, fields={"before": before}, _get_time=lambda: 30.0)
        task.start_time = 20.0
        return str(Remaining().render(task))

    assert [left(before) for before in (0.0, 40.0, 60.0)] == ["7 s left", "20 s left", ""]


def test_the_estimate_holds_what_workers_need_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    watch([replace(ESTIMATE, startup_seconds=600.0), WorkDone("sgd/003", 7300.0)])

    assert capsys.readouterr().err.splitlines()[1:] == [
        "about 71 min with 2 workers, 3 MB of disk, if nothing is done yet",
        "100 % done",
    ]


def test_a_problem_lets_the_rest_go_on_and_is_an_error_in_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    def events() -> Iterator[Event]:
        yield Notice("no trial of sgd completed", problem=True)
        yield Notice("the rest")

    with pytest.raises(OptstudyError, match="^1 problem, shown above; the rest is done$"):
        watch(events())

    assert capsys.readouterr().err.splitlines() == ["problem: no trial of sgd completed", "note: the rest"]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    watch([ESTIMATE, Notice("moved"), WorkDone("sgd/003", 7300.0)], quiet=True)

    assert capsys.readouterr() == ("", "")
