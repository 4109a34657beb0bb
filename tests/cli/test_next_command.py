"""The next command that `optstudy status` prints is one that works."""

import shlex
import shutil
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
from commands import Run

from optstudy.study.driver import Study
from optstudy.study.events import RunEnded, TrialEnded
from optstudy.study.workspace import StudyFiles, locked

SHORT: Mapping[str, Any] = {"trials": 2, "tune_epochs": 1, "train_epochs": 1}


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands start no workers."""
    monkeypatch.setattr(Study, "_workers", lambda _: tiny.InProcessWorkers())


def stop(kind: type | None, *phases: Any, name: str = "tiny", configs: Any = None, **settings: Any) -> None:
    """Run a study until an event of a kind, or to its end."""
    events = tiny.study(name, **{**SHORT, **settings}).run(*phases, configs=configs)
    next((event for event in events if kind is not None and isinstance(event, kind)), None)
    assert isinstance(events, Generator)
    events.close()


def follow(run: Run, *arguments: str) -> list[str]:
    """Run the commands that `status` prints until it prints one for results; each must work."""
    commands: list[str] = []
    while not commands or not commands[-1].startswith(("compare", "optimizers")):
        last = run("status", *arguments).err.splitlines()[-1]
        words = shlex.split(last.removeprefix("next: optstudy "))
        ended = run(*words)
        assert ended.status == 0, (last, ended.err)
        commands.append(shlex.join(words))
        assert len(commands) < 5
    return commands


def damage_the_best_of_the_second_study() -> None:
    stop(RunEnded, "training", configs=["default"])
    stop(None, "tuning", name="other")
    best = Path("tuning/best/other/sgd.json")
    best.write_text(best.read_text()[:-20])


STATES: Mapping[str, tuple[Callable[[], object], list[str]]] = {
    "tuning begun": (
        lambda: stop(TrialEnded, "tuning"),
        ["tune --study tiny", "train --study tiny", "compare --study tiny"],
    ),
    "stopped while tuning": (lambda: stop(TrialEnded), ["study --study tiny", "compare --study tiny"]),
    "stopped while training": (lambda: stop(RunEnded), ["train --study tiny", "compare --study tiny"]),
    "stopped while training another configuration": (
        lambda: stop(RunEnded, "training", configs=["default"]),
        ["train --config default --study tiny", "compare --study tiny"],
    ),
    "tuned in trials that the batch does not divide, for several configurations": (
        lambda: stop(None, "tuning", trials=3, seeds=1, configs=["best", "default"]),
        ["train --config best --config default --study tiny", "compare --study tiny"],
    ),
    "the second of two studies has a damaged best configuration": (
        damage_the_best_of_the_second_study,
        ["tune --study other", "train --study other", "compare --study other"],
    ),
    "no trial completed": (
        lambda: stop(None, "tuning", optimizers=("unreliable",), trials=1, batch=1),
        ["optimizers unreliable"],
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_the_next_command_goes_on(state: str, run: Run, workspace: Path) -> None:
    prepare, commands = STATES[state]
    prepare()

    assert follow(run) == commands


def test_a_study_that_another_process_runs_is_looked_at_again(run: Run, finished_copy: Path) -> None:
    with locked(StudyFiles(finished_copy, "tiny")):
        lines = run("status").err.splitlines()

    assert lines[-2].startswith("note: study 'tiny' is being run by process ")
    assert lines[-1] == "next: optstudy status"


def test_a_study_that_cannot_go_on_is_named_with_the_reason(run: Run, workspace: Path) -> None:
    stop(TrialEnded, "tuning")
    net = workspace / "net.py"
    net.write_text(net.read_text() + "# changed")

    last = run("status").err.splitlines()[-1]

    assert last.startswith("note: study 'tiny' was started with a different net.py; ")
    assert run("tune", "--study", "tiny").err.splitlines()[0] == last.replace("note: ", "optstudy: ")


def test_a_finished_study_is_compared_even_if_it_cannot_go_on(run: Run, finished_copy: Path) -> None:
    (finished_copy / "net.py").unlink()

    assert run("status").err.splitlines()[-1] == "next: optstudy compare --study tiny"


def test_the_next_command_names_the_server_of_the_study(
    run: Run, workspace: Path, empty_store: Path, tmp_path: Path
) -> None:
    database = shutil.copy(empty_store / "mlruns" / "mlflow.db", tmp_path / "server.db")
    server = f"sqlite:///{database}"
    tiny.study(**SHORT, tracking_uri=server).tune()

    first, second = (run("status", *options).err for options in ((), ("--tracking-uri", server)))

    assert first.splitlines()[-1] == f"next: optstudy status --tracking-uri {server}"
    assert second == f"next: optstudy train --study tiny --tracking-uri {server}\n"


def test_each_study_whose_runs_are_not_in_the_store_is_named_with_the_command_that_logs_them_again(
    run: Run, workspace: Path, empty_store: Path
) -> None:
    stop(None, "training", name="trained", configs=["default"])
    stop(None, "tuning", name="tuned")
    shutil.copy(empty_store / "mlruns" / "mlflow.db", workspace / "mlruns" / "mlflow.db")

    notes = [line for line in run("status").err.splitlines() if line.startswith("note: ")]

    expected = {
        "trained": "optstudy train --config default --study trained",
        "tuned": "optstudy tune --study tuned",
    }
    assert notes == [
        f"note: study {name!r} has no runs in MLflow; to log them again from tuning/studies/{name}, run: {command}"
        for name, command in expected.items()
    ]
    for command in expected.values():
        assert run(*shlex.split(command)[1:]).status == 0
    assert "note: " not in run("status").err
