"""What tests share: a migrated tracking database, a user's workspace, a study that is finished."""

import gc
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest
from hypothesis import settings
from tabulate import tabulate

from optstudy.records.location import Location
from optstudy.tracking import embedded

settings.register_profile("optstudy", deadline=None)  # a busy machine is no failure
settings.load_profile("optstudy")

# Before anything imports torch, and for every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
for _name in ("MLFLOW_TRACKING_URI", "OPTSTUDY_DATA_DIR"):
    os.environ.pop(_name, None)

# A shell that starts a job in the background has it ignore Ctrl-C, and with it all that the job starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Of libraries about themselves; nothing that optstudy could write otherwise.
FOREIGN_WARNINGS = (
    "ignore:The ``noload`` loader strategy is deprecated",  # MLflow's use of SQLAlchemy
    "ignore:.*Any type hint is inferred as AnyType",  # MLflow imports its own types
)


def pytest_configure(config: pytest.Config) -> None:
    """Let warnings pass that are about other people's code."""
    for line in FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_finish() -> None:
    """Take what was imported out of garbage collection, which takes a third of a second beside torch."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[[str, str, Mapping[str, int]], None]:
    """Add a row to a table that is printed after the tests: title, row, counts by column. Equal rows are summed."""
    return lambda title, row, counts: record_property("counts", (title, row, dict(counts)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables of `count`, also of the processes of pytest-xdist."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    calls = [report for report in reports if getattr(report, "when", None) == "call"]
    tables: dict[str, dict[str, Counter[str]]] = {}
    for title, row, counts in (value for r in calls for name, value in r.user_properties if name == "counts"):
        tables.setdefault(title, {}).setdefault(row, Counter()).update(counts)
    for title, rows in tables.items():
        total: Counter[str] = Counter()
        for counts in rows.values():
            total.update(counts)
        cells = [{title: row, **counts} for row, counts in [*sorted(rows.items()), ("total", total)]]
        terminalreporter.write_line("\n" + tabulate(cells, headers="keys", missingval="0"))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Make a folder once for all processes that share the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def empty_store(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A workspace whose tracking database has been made and holds nothing; making one takes seconds."""

    def make(folder: Path) -> None:
        from optstudy.tracking import open_tracking

        open_tracking(Location(folder))[0].studies()

    return once("empty-store", make)


@pytest.fixture
def store_folder(empty_store: Path, tmp_path: Path) -> Path:
    """A folder with an empty tracking database of its own."""
    return Path(shutil.copytree(empty_store, tmp_path / "workspace"))


@pytest.fixture
def user_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's workspace, and the current folder: their data, model and optimizer."""
    import tiny

    folder = tmp_path / "workspace"
    tiny.write(folder)
    monkeypatch.chdir(folder)
    path = [*sys.path]
    yield folder
    sys.path[:] = path  # loading the user's files makes their folder importable


@pytest.fixture
def workspace(empty_store: Path, user_files: Path) -> Path:
    """A user's workspace, and the current folder, with an empty tracking database."""
    return Path(shutil.copytree(empty_store, user_files, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def finished(empty_store: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A workspace where the study `tiny` has run to its end; only to be read, or copied."""

    def make(folder: Path) -> None:
        import tiny

        shutil.copytree(empty_store, folder, dirs_exist_ok=True)
        tiny.write(folder)
        done = tiny.command(
            "study", "--study", "tiny", "--jobs", "2", *tiny.options(**tiny.WHOLE), folder=folder
        )
        assert done.returncode == 0, done.stderr
        (folder / "output.txt").write_text(done.stdout)
        (folder / "errors.txt").write_text(done.stderr)

    return once("finished", make)


@pytest.fixture(scope="session")
def retrained(empty_store: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A workspace where a study has retrained its finalists and run to its end; only to be read, or copied."""
    import studies

    return studies.finish(once, empty_store)


@pytest.fixture
def retrained_copy(retrained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that workspace, and the current folder."""
    import studies

    with studies.inside(studies.copy(retrained, tmp_path / "copy")) as folder:
        yield folder


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the finished study's workspace, and the current folder."""
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    _artifact_repos_cache.clear()  # by run, and the runs of every copy have the same names
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    embedded.update_moved_paths(folder)
    monkeypatch.chdir(folder)
    path = [*sys.path]
    yield folder
    sys.path[:] = path
