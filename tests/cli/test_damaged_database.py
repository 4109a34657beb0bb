"""A damaged tracking database is one line with its file and what to do, in every command; then all is logged again."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import studies
import tiny
from commands import Run

from optstudy.comparison.read import read_studies
from optstudy.errors import OptstudyError
from optstudy.execution.pool import WorkerPool
from optstudy.posthoc.find_runs import find_runs
from optstudy.records.location import Location
from optstudy.study.status import read_statuses
from optstudy.tracking import embedded, open_existing

COMMANDS = (
    "study --study tiny",
    "compare",
    "report",
    "status",
    "ui --port 5999",
    "reproduce tiny/sgd/seed-0",
    "curvature tiny/sgd/seed-0",
    "rm tiny --yes",
)
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda _: b"no database\n" * 1000,
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "header": lambda data: bytes(100) + data[100:],
    "zeros": lambda data: data[:4096] + bytes(len(data) - 4096),
    "no text": lambda data: data.replace(b"sgd/seed-1", b"\xff" * 10),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_command_names_the_database_and_what_to_do_in_one_line(
    damage: str, retrained_copy: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerPool, "workers", lambda *_, **__: tiny.InProcessWorkers())
    path = embedded.database(retrained_copy)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))

    ended = {command: run(*command.split()) for command in COMMANDS}

    for command, one in ended.items():
        assert one.status == 1, command
        [line] = [line for line in one.err.splitlines() if line.startswith("optstudy: ")]
        assert line.startswith(f"optstudy: {path} cannot be read as a tracking database ("), command
        assert line.endswith(
            "; restore it, or move it away and rerun the study's command: it logs the runs again from tuning/studies"
        )
        assert "Traceback" not in one.err
    assert (retrained_copy / "tuning/studies/tiny/specification.json").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = 'f00'",
        "DROP TABLE latest_metrics",
        "DELETE FROM alembic_version",
    ],
)
def test_a_database_of_other_tables_is_one_line(statement: str, retrained_copy: Path, run: Run) -> None:
    studies.change_database(retrained_copy, statement)

    ended = run("compare")

    assert ended.status == 1
    assert ended.line.startswith(
        f"optstudy: {embedded.database(retrained_copy)} cannot be read as a tracking database"
    )


def test_a_database_that_another_program_has_locked_is_not_called_damaged(
    retrained_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = embedded.database(retrained_copy)
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(path, timeout=0)) as other:
        one.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as raised:
            other.execute("SELECT * FROM runs")

    assert str(embedded.database_error(path, raised.value)) == (
        f"{path} is in use by another program (database is locked);"
        " nothing finished is lost, and the same command goes on"
    )


def test_without_the_damaged_database_the_command_of_the_study_logs_all_again(
    retrained: Path, retrained_copy: Path, empty_store: Path, run: Run
) -> None:
    path = embedded.database(retrained_copy)
    path.rename(path.with_suffix(".damaged"))
    shutil.copy(embedded.database(empty_store), path)  # as the command makes it, in less time
    embedded.update_moved_paths(retrained_copy)

    list(tiny.reopened_study().run())

    compared = json.loads(run("compare", "--json").out)
    assert compared == json.loads(run("compare", "--json", "--workspace", str(retrained)).out)


def test_flipped_bytes_of_the_database_raise_nothing_but_one_line(retrained: Path, tmp_path: Path) -> None:
    data = embedded.database(retrained).read_bytes()
    pages = [
        start
        for start in range(4096, len(data), 4096)  # the first is the header
        if any(word in data[start : start + 4096] for word in (b"final/", b"optstudy.", b"seed-0"))
    ]
    for seed in range(20):
        draws = np.random.default_rng(seed)
        changed = bytearray(data)
        for _ in range(draws.choice([1, 5, 20])):
            changed[draws.choice(pages) + draws.integers(4096)] = draws.integers(256)
        folder = tmp_path / str(seed)  # MLflow keeps its connection to each path
        shutil.copytree(retrained / "tuning", folder / "tuning")
        embedded.database(folder).parent.mkdir()
        embedded.database(folder).write_bytes(changed)

        lines = [_line(read, Location(folder)) for read in (_compare, read_statuses, _find)]

        assert not any("\n" in line for line in lines)


def _line(read: Callable[[Location], object], location: Location) -> str:
    """Return the line with which reading ends; "" if it succeeds."""
    try:
        read(location)
    except OptstudyError as error:
        return str(error)
    return ""


def _compare(location: Location) -> None:
    read_studies(open_existing(location), workspace=location.workspace)


def _find(location: Location) -> None:
    find_runs(open_existing(location), "tiny")


@pytest.mark.parametrize("moved", ["mlruns", "mlruns/mlflow.db"])
def test_a_database_that_is_missing_is_named_with_the_command_that_logs_the_runs_again(
    moved: str, retrained: Path, retrained_copy: Path, run: Run
) -> None:
    whole = run("compare", "--json", "--workspace", str(retrained)).out
    (retrained_copy / moved).rename(retrained_copy / "elsewhere")

    for command in COMMANDS[1:-1]:
        ended = run(*command.split())
        assert ended.status == 2
        assert ended.line == (
            f"optstudy: {retrained_copy / 'mlruns' / 'mlflow.db'} is missing; move it back, or log the runs again from"
            " tuning/studies with: optstudy study --study tiny"
        )

    list(tiny.reopened_study().run())
    assert json.loads(run("compare", "--json").out)["rows"] == json.loads(whole)["rows"]
