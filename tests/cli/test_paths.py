"""A path that the system cannot look up, or that leads to no file or folder, ends a command in one line."""

import errno
import os
from pathlib import Path

import pytest
from commands import Run

from optstudy.cli.main import group

LONG, DEEP = "x" * 300, "d/" * 3000


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a loop of links, a pipe and a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (LONG, f"{LONG[:100]!r} cannot be looked up (File name too long); give another."),
        (DEEP, f"{DEEP[:100]!r} cannot be looked up (File name too long); give another."),
        ("loop", "'loop' cannot be looked up (Too many levels of symbolic links); give another."),
        ("pipe", "'pipe' is no folder; give another."),
        ("/dev/null", "'/dev/null' is no folder; give another."),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        "status --workspace",
        "compare --workspace",
        "study --data-dir",
        "report --output",
        "curvature x --output",
    ],
)
def test_a_folder_that_cannot_be_one(command: str, path: str, why: str, run: Run) -> None:
    *words, option = command.split()

    ended = run(*words, option, path)

    assert ended.line == f"optstudy: Invalid value for '{option}': {why}"
    assert ended.status == 2


@pytest.mark.parametrize("path", [LONG, DEEP, "loop", "pipe", "/dev/zero", "folder"])
@pytest.mark.parametrize(
    "command", ["curvature --checkpoint", "curvature x --indices", "reproduce x --runs", "compare --output"]
)
def test_a_file_that_cannot_be_one(command: str, path: str, run: Run) -> None:
    *words, option = command.split()

    ended = run(*words, option, path)

    assert ended.line.startswith("optstudy: ")
    assert path[:100] in ended.line
    assert ended.status == 2


def test_an_error_of_the_system_that_nobody_expected_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.ELOOP, "Too many levels of symbolic links", "mlruns/mlflow.db")

    monkeypatch.setattr(group, "main", broken)

    ended = run("status")

    assert ended.line == (
        "optstudy: mlruns/mlflow.db: Too many levels of symbolic links;"
        " correct that, and run the same command again"
    )
    assert ended.status == 1
