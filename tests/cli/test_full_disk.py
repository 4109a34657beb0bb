"""A study on a full disk ends in one line, loses nothing, and goes on where there is space again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from components import IN_NAMESPACE, may_mount

TESTS = Path(__file__).parents[1]
LEFT = (0, 60_000, 200_000, 300_000)  # bytes; see full_disk.py


@pytest.mark.slow
@pytest.mark.timeout(900)  # some studies in a row, on a machine that may be busy
def test_a_study_goes_on_after_a_full_disk_to_the_same_results(empty_store: Path, tmp_path: Path) -> None:
    may_mount()
    program = [*IN_NAMESPACE, sys.executable, str(TESTS / "full_disk.py"), str(tmp_path), str(empty_store)]

    done = subprocess.run([*program, *map(str, LEFT)], check=False, capture_output=True, text=True, cwd=TESTS)

    assert done.stderr == ""
    whole, *tries = map(json.loads, done.stdout.splitlines())
    assert (whole["status"], len(tries)) == (0, len(LEFT))
    lock, report, table = whole["read-only"]
    assert lock.startswith(
        "optstudy: cannot write tuning/studies/tiny/lock: Read-only file system; make it writable"
    )
    assert report.startswith(f"optstudy: cannot write {tmp_path}/view/mlruns/mlflow.db: ")
    assert report.endswith("; make it writable and run the same command again: nothing finished is lost\n")
    assert not (tmp_path / "report").exists()
    assert table.startswith(f"optstudy: cannot write {tmp_path}/view/table.md: Read-only file system; ")
    room = whole["no room for temporary files"]
    assert room.startswith(f"optstudy: cannot write {tmp_path}/small/")
    assert room.endswith("; free some space and run the same command again: nothing finished is lost")
    for tried in tries:
        *progress, last = tried["errors"].splitlines()
        assert tried["status"] == 1, tried
        assert last.startswith("optstudy: cannot write "), tried
        assert last.endswith("; free some space and run the same command again: nothing finished is lost"), (
            tried
        )
        assert not any(line.startswith(("Traceback", "optstudy:")) for line in progress), tried
        assert (tried["hidden"], tried["again"], tried["rows"]) == ([], 0, whole["rows"])


def test_output_that_finds_no_space_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = tiny.start(["optimizers"], tmp_path, stdout=full, stderr=subprocess.PIPE)
        _, errors = ended.communicate()

    assert ended.returncode == 1
    assert errors == (
        "optstudy: cannot write the output: No space left on device; free some space and run the same command again:"
        " nothing finished is lost\n"
    )
