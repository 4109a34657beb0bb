"""A workspace's store is there whole or not at all, and finds its artifacts again where it was moved to."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from optstudy.errors import OptstudyError, UsageError
from optstudy.records.location import Location
from optstudy.tracking import Tracking, embedded, open_tracking


def run_with_artifact(workspace: Path) -> str:
    tracking, notice = open_tracking(Location(workspace))
    assert notice is None
    run_id = tracking.open_run("mine/final", "sgd/seed-0", key="k", tags={}, params={}, started_at=1.0)
    tracking.log_files(run_id, {"note.txt": b"here"})
    return run_id


def artifacts(workspace: Path, run_id: str) -> dict[str, bytes]:
    """Return a run's artifacts as any client of MLflow lists and reads them."""
    from mlflow import MlflowClient

    client = MlflowClient(embedded.uri(workspace))
    names = [found.path for found in client.list_artifacts(run_id)]
    return {name: Path(client.download_artifacts(run_id, name)).read_bytes() for name in names}


def opened(workspace: Path) -> subprocess.Popen[bytes]:
    """Open a workspace's store in a process of its own."""
    program = "import sys; from pathlib import Path; from optstudy.tracking import open_tracking"
    program += "; from optstudy.records.location import Location"
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{program}; open_tracking(Location(Path(sys.argv[1])))[0].studies()",
            workspace,
        ],
        stderr=subprocess.PIPE,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def backups(workspace: Path) -> list[Path]:
    return sorted((workspace / "mlruns").glob("mlflow.db.before-move-*"))


NAMES = (
    *(
        "elsewhere",
        "with spaces",
        " at its ends ",
        "a%20b",
        "a%2Fb",
        "100% of it",
        "é#&",
        "what?",
        "a+b",
        "a;b=c",
    ),
    *(
        "a:b",
        "file:x?mode=ro",
        "user:password@host",
        "a'b\"c",
        "a\\b",
        "[a]{b}",
        "a\nb",
        "$HOME`x`",
        "\x1b[31m",
    ),
    *("x/mlruns/artifacts/y",),  # as inside a workspace
)


@pytest.mark.parametrize("there", NAMES)
def test_a_moved_workspace_finds_its_artifacts_again(there: str, store_folder: Path, tmp_path: Path) -> None:
    run_id = run_with_artifact(store_folder)
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    moved = store_folder.rename(tmp_path / there)

    notice = embedded.update_moved_paths(moved)

    assert artifacts(moved, run_id) == {"note.txt": b"here"}
    [backup] = backups(moved)
    assert notice == (
        f"the workspace was moved from {store_folder}: updated its artifact locations (before: {backup})"
    )


@pytest.mark.parametrize("here", NAMES)
def test_a_workspace_of_any_name_works_and_can_be_moved(
    here: str, store_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / here).parent.mkdir(parents=True, exist_ok=True)
    named = store_folder.rename(tmp_path / here)
    run_id = run_with_artifact(named)

    assert names(tmp_path) == [here.partition("/")[0]]  # no folder of another spelling beside it

    assert artifacts(named, run_id) == {"note.txt": b"here"}
    assert (named / "mlruns" / "artifacts" / "mine").is_dir()
    moved = named.rename(tmp_path / "moved")
    embedded.update_moved_paths(moved)
    assert artifacts(moved, run_id) == {"note.txt": b"here"}


def test_a_copy_has_artifacts_of_its_own_and_leaves_the_original_alone(
    store_folder: Path, tmp_path: Path
) -> None:
    run_id = run_with_artifact(store_folder)
    copied = Path(shutil.copytree(store_folder, tmp_path / "copied"))
    embedded.update_moved_paths(copied)
    (copied / "mlruns" / "artifacts" / "mine" / "final" / run_id / "artifacts" / "note.txt").write_bytes(
        b"copy"
    )

    assert artifacts(copied, run_id) == {"note.txt": b"copy"}
    assert artifacts(store_folder, run_id) == {"note.txt": b"here"}
    assert embedded.update_moved_paths(store_folder) is None


def test_the_backup_is_the_database_as_it_was(store_folder: Path, tmp_path: Path) -> None:
    run_with_artifact(store_folder)
    moved = store_folder.rename(tmp_path / "elsewhere")
    with closing(sqlite3.connect(embedded.database(moved))) as connection:
        before = list(connection.iterdump())

    embedded.update_moved_paths(moved)

    [backup] = backups(moved)
    with closing(sqlite3.connect(backup)) as connection:
        assert list(connection.iterdump()) == before


def test_a_workspace_that_stays_is_left_alone(store_folder: Path) -> None:
    run_with_artifact(store_folder)
    before = embedded.database(store_folder).read_bytes()

    assert embedded.update_moved_paths(store_folder) is None
    assert embedded.database(store_folder).read_bytes() == before
    assert backups(store_folder) == []


def test_a_workspace_that_was_mended_is_left_alone(store_folder: Path, tmp_path: Path) -> None:
    run_with_artifact(store_folder)
    moved = store_folder.rename(tmp_path / "elsewhere")
    embedded.update_moved_paths(moved)

    assert embedded.update_moved_paths(moved) is None
    assert len(backups(moved)) == 1


def test_a_workspace_without_a_store_has_nothing_to_mend(tmp_path: Path) -> None:
    assert embedded.update_moved_paths(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_opening_a_moved_workspace_says_so_and_goes_on_in_the_new_place(
    store_folder: Path, tmp_path: Path
) -> None:
    run_with_artifact(store_folder)
    moved = store_folder.rename(tmp_path / "elsewhere")

    tracking, notice = open_tracking(Location(moved))
    new = tracking.open_run("mine/final", "sgd/seed-1", key="k", tags={}, params={}, started_at=2.0)
    tracking.log_files(new, {"note.txt": b"new"})

    assert notice is not None
    assert notice.startswith(f"the workspace was moved from {store_folder}: ")
    assert artifacts(moved, new) == {"note.txt": b"new"}
    assert not store_folder.exists()


def test_a_database_that_cannot_be_read_is_one_line_with_its_file(store_folder: Path) -> None:
    embedded.database(store_folder).write_bytes(b"no database" * 100)

    with pytest.raises(OptstudyError) as raised:
        embedded.update_moved_paths(store_folder)

    assert str(raised.value) == (
        f"{embedded.database(store_folder)} cannot be read as a tracking database (file is not a database); restore it,"
        " or move it away and rerun the study's command: it logs the runs again from tuning/studies"
    )


@pytest.mark.slow
def test_a_process_killed_while_it_makes_the_database_leaves_none(tmp_path: Path) -> None:
    database = embedded.database(tmp_path)
    with opened(tmp_path) as first:
        while not (new := [*tmp_path.glob("mlruns/mlflow.db.new-*/*")]) and first.poll() is None:
            time.sleep(0.001)
        os.kill(first.pid, signal.SIGKILL)
    assert new
    assert not database.exists()

    with opened(tmp_path) as second:
        errors = second.communicate()[1]

    assert (second.returncode, errors) == (0, b"")
    assert {path.name for path in database.parent.iterdir()} == {"mlflow.db", "lock"}


@pytest.mark.slow
def test_processes_that_open_a_new_workspace_at_once_share_one_database(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        said = [process.communicate()[1] for process in (first, second)]

    assert said == [b"", b""]
    assert (first.returncode, second.returncode) == (0, 0)
    assert {path.name for path in embedded.database(tmp_path).parent.iterdir()} == {"mlflow.db", "lock"}


def test_a_database_that_mlflow_left_half_made_is_one_line_with_what_to_do(store_folder: Path) -> None:
    path = embedded.database(store_folder)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE experiment_tags")
        connection.execute("UPDATE alembic_version SET version_num = 'cfd24bdc0731'")

    with pytest.raises(OptstudyError) as raised:
        open_tracking(Location(store_folder))

    assert str(raised.value).startswith(f"{path} cannot be read as a tracking database (")
    assert str(raised.value).endswith("it logs the runs again from tuning/studies")
    assert "\n" not in str(raised.value)


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("a file where a folder should be")

    with pytest.raises(OptstudyError, match=r"^cannot write .*/mlruns: .*; choose another --workspace$"):
        open_tracking(Location(tmp_path))


@pytest.mark.slow
def test_a_new_database_is_made_in_a_folder_of_any_name(tmp_path: Path) -> None:
    workspace = tmp_path / "a%20b?c#d;e&f+g:h'\"\\\n é "

    open_tracking(Location(workspace))[0].studies()

    assert names(tmp_path) == [workspace.name]
    assert names(workspace / "mlruns") == ["lock", "mlflow.db"]


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no database can have this path; choose another --workspace$"):
        open_tracking(Location(tmp_path / os.fsdecode(b"\xff")))

    assert list(tmp_path.iterdir()) == []


def test_a_workspace_inside_the_artifacts_of_another_is_moved_alone(
    store_folder: Path, tmp_path: Path
) -> None:
    run_id = run_with_artifact(store_folder)
    copied = shutil.copytree(store_folder, tmp_path / "copied")
    inner = Path(shutil.move(copied, store_folder / "mlruns" / "artifacts" / "inner"))

    notice = embedded.update_moved_paths(inner)

    assert notice is not None
    assert notice.startswith(f"the workspace was moved from {store_folder}: ")
    assert artifacts(inner, run_id) == {"note.txt": b"here"}
    assert embedded.update_moved_paths(inner) is None
    assert embedded.update_moved_paths(store_folder) is None


@pytest.mark.parametrize(
    "uri", ["foo://x", "file:///tmp/runs", "runs", "postgresql+nobody://me:secret@host/db"]
)
def test_an_address_where_mlflow_keeps_no_runs_is_refused_with_those_that_do(
    uri: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as raised:
        open_tracking(Location(tmp_path, uri))

    said = str(raised.value)
    assert said.startswith(f"{uri.replace('me:secret@', '')}: MLflow does not support this address")
    assert said.endswith(
        "; give a server, such as http://HOST:PORT or databricks,"
        " or a database, such as sqlite:////FOLDER/mlflow.db or postgresql://HOST/NAME"
    )
    assert "\n" not in said
    assert "secret" not in said


def test_a_server_has_no_store_to_mend(tmp_path: Path) -> None:
    tracking, notice = open_tracking(Location(tmp_path, "http://127.0.0.1:9"))

    assert isinstance(tracking, Tracking)
    assert notice is None
    assert list(tmp_path.iterdir()) == []
