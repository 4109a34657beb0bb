"""What cannot be written is said in one line with what to do, and leaves nothing half made."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from optstudy.errors import UnwrittenError
from optstudy.records.io import find_unwritten, temporary_folder, write_files, writing

KEPT = "nothing finished is lost"
FULL = f"; free some space and run the same command again: {KEPT}"
READ_ONLY = f"; make it writable and run the same command again: {KEPT}"


def test_a_full_disk_is_one_line_with_the_file_and_what_to_do() -> None:
    with (
        pytest.raises(UnwrittenError) as raised,
        writing(Path("a.json")),
        Path("/dev/full").open("wb") as full,
    ):
        full.write(b"x")

    assert str(raised.value) == f"cannot write a.json: No space left on device{FULL}"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EDQUOT, FULL),
        *((number, READ_ONLY) for number in (errno.EROFS, errno.EACCES, errno.EPERM)),
        (errno.EIO, "; check the disk and run the same command again"),
        (
            errno.EFBIG,
            "; raise the limit on the size of files (ulimit -f) and run the same command again: " + KEPT,
        ),
        *((number, "; choose another folder") for number in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)),
    ],
)
def test_the_remedy_fits_the_reason(number: int, remedy: str) -> None:
    with pytest.raises(UnwrittenError) as raised, writing(Path("a.json"), "choose another folder"):
        raise OSError(number, os.strerror(number))

    assert str(raised.value) == f"cannot write a.json: {os.strerror(number)}{remedy}"


def test_a_full_database_is_found_behind_the_exceptions_of_libraries(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as raised:
            connection.execute("CREATE TABLE t (x)")
    wrapped = RuntimeError("(sqlite3.OperationalError)\n[SQL: CREATE]")
    wrapped.__cause__ = raised.value

    assert str(find_unwritten(wrapped, "a.db")) == f"cannot write a.db: database or disk is full{FULL}"


def test_a_read_only_database_is_one_that_cannot_be_written(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "a.db").close()
    with (
        closing(sqlite3.connect(f"{(tmp_path / 'a.db').as_uri()}?mode=ro", uri=True)) as connection,
        pytest.raises(sqlite3.OperationalError) as raised,
    ):
        connection.execute("CREATE TABLE t (x)")

    assert str(find_unwritten(raised.value, "a.db")) == (
        f"cannot write a.db: attempt to write a readonly database{READ_ONLY}"
    )


def test_a_database_whose_folder_is_missing_is_not_said_to_be_read_only(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "a.db"
    with pytest.raises(sqlite3.OperationalError) as raised:
        sqlite3.connect(path)

    assert str(find_unwritten(raised.value, path)) == (
        f"cannot write {path}: unable to open database file;"
        " its folder is missing or closed to you; restore it and run the same command again"
    )


def test_a_copy_that_fails_names_its_target() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/mnt/from", None, "/mnt/to")

    assert str(find_unwritten(error, "elsewhere")) == f"cannot write /mnt/to: No space left on device{FULL}"


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EPERM, "Operation not permitted"),
        ValueError("no space left"),
        FileNotFoundError(2, "No such file"),
        sqlite3.DatabaseError("malformed"),
    ],
)
def test_other_exceptions_are_not_taken_for_a_full_disk(error: Exception) -> None:
    assert find_unwritten(error, "a.db") is None


def test_of_several_files_all_are_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    files = {"a.txt": b"a", "deep/b.txt": b"b", "mine.txt/c.txt": b"no folder"}

    with pytest.raises(UnwrittenError, match=r"mine.txt/c.txt: File exists$"):
        write_files(tmp_path, files)

    assert [path.name for path in tmp_path.rglob("*")] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_without_a_temporary_folder_the_message_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))

    remedy = r"gone: No such file.*; set TMPDIR to a folder with free space$"
    with pytest.raises(UnwrittenError, match=remedy), temporary_folder():
        pass
