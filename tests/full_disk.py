"""Run a study on a disk of its own with little space left, free the disk, and run the study again.

It is run as a program in a mount namespace of its own: ``unshare --mount python full_disk.py FOLDER STORE BYTES ...``.
For each number of bytes it prints, as a line of JSON, how the first try ended, what was left behind, and how the second
one ended.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tiny

from optstudy.cli import main
from optstudy.study import driver

NEW_DATABASE = 300_000  # bytes: too little for a database, which is made only then, since it takes seconds
COMMAND = ("study", "--study", "tiny", *tiny.options(trials=2, tune_epochs=1, train_epochs=1, seeds=1))


def run(*arguments: str) -> tuple[int, str, str]:
    sys.argv = ["optstudy", *arguments]
    code: Any = 0
    with (
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    return code, output.getvalue(), errors.getvalue()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if "seconds" not in key}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def scenario(left: int | None) -> dict[str, Any]:
    """Run the study with some bytes left, None for as many as it needs, and again with all of them."""
    filler, status = Path("filler"), os.statvfs(".")
    if left is not None:
        filler.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - left)))
    first = run(*COMMAND)
    filler.unlink(missing_ok=True)
    hidden = [str(path) for path in Path().rglob("*") if path.name.startswith(".") or ".new" in path.name]
    again = run(*COMMAND)
    rows = without_times(json.loads(run("compare", "--json")[1]))
    return {
        "left": left,
        "status": first[0],
        "errors": first[2],
        "hidden": hidden,
        "again": again[0],
        "rows": rows,
    }


def read_only(disk: Path, folder: Path) -> list[str]:
    """Return what the study, its report and its table print where nothing can be written."""
    view = folder / "view"
    view.mkdir()
    subprocess.run(["mount", "--bind", str(disk), str(view)], check=True)  # noqa: S607
    subprocess.run(["mount", "-o", "remount,bind,ro", str(view)], check=True)  # noqa: S607
    with contextlib.chdir(view):
        printed = [run(*command)[2] for command in (COMMAND, ("report", "--output", str(folder / "report")))]
    with contextlib.chdir(disk):
        return [*printed, run("compare", "--output", str(view / "table.md"))[2]]


def temporary_files(folder: Path) -> str:
    """Return how a command ends that finds no room for its temporary files."""
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(small)], check=True)  # noqa: S607
    tempfile.tempdir = str(small)
    try:
        return run("train", "--study", "tiny", "--seeds", "2")[2].splitlines()[-1]
    finally:
        tempfile.tempdir = None


if __name__ == "__main__":
    driver.Study = tiny.InProcessStudy  # type: ignore[misc]  # the command line opens it
    folder, store = Path(sys.argv[1]), Path(sys.argv[2])
    for left in (None, *map(int, sys.argv[3:])):
        disk = folder / str(left)
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=True)  # noqa: S607
        tiny.write(disk)
        if left != NEW_DATABASE:
            shutil.copytree(store, disk, dirs_exist_ok=True)
        with contextlib.chdir(disk):
            tried = scenario(left)
        if left is None:
            tried["read-only"] = read_only(disk, folder)
            with contextlib.chdir(disk):
                tried["no room for temporary files"] = temporary_files(folder)
        sys.stdout.write(json.dumps(tried) + "\n")
