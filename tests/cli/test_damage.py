"""Damaged files of a workspace: one line that names them, nothing lost, and the same numbers again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny
from commands import Run

from optstudy.execution.flows import Task
from optstudy.execution.pool import WorkerPool
from optstudy.records.io import write_sealed
from optstudy.study.events import Notice, WorkDone
from optstudy.study.workspace import StudyFiles

SETTINGS: dict[str, Any] = {
    "trials": 2, "tune_epochs": 2, "rung_epochs": 1, "seeds": 1, "samples": 20, "eigen_last": 2,
}  # fmt: skip
FILES = StudyFiles(Path(), "tiny")
COMPUTING = {"run_verified_rung", "measure_final_curvature"}


class Watched(tiny.InProcessWorkers):
    """Workers in this process that write down what they were given."""

    def __init__(self, tasks: list[str]) -> None:
        super().__init__()
        self.tasks = tasks

    def submit(self, ticket: int, task: Task) -> None:
        self.tasks.append(task.function.__name__)
        super().submit(ticket, task)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks that workers were given."""
    given: list[str] = []
    monkeypatch.setattr(WorkerPool, "workers", lambda *_, **__: Watched(given))
    return given


@pytest.fixture(scope="session")
def small(once: Callable[[str, Callable[[Path], None]], Path], empty_store: Path) -> Path:
    """A workspace where a study of one optimizer has run to its end; only to be copied."""

    def make(folder: Path) -> None:
        shutil.copytree(empty_store, folder, dirs_exist_ok=True)
        tiny.write(folder)
        with studies.inside(folder):
            list(tiny.study(**SETTINGS).run())

    return once("small", make)


@pytest.fixture
def folder(small: Path, tmp_path: Path, tasks: list[str]) -> Any:
    """A copy of that workspace, and the current folder."""
    with studies.inside(studies.copy(small, tmp_path / "copy")) as copy:
        yield copy


def table(run: Run, workspace: str = ".") -> list[Any]:
    """Return the rows of the comparison, without times."""
    ended = run("compare", "--workspace", workspace, "--json")
    assert ended.status == 0, ended.err
    rows = json.loads(ended.out)["rows"]
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


def run_files() -> list[Path]:
    """Return the files that the cache has of runs."""
    return sorted(path for path in (FILES.rungs).rglob("*") if path.is_file())


def flipped(path: Path) -> None:
    data = path.read_bytes()
    place = len(data) // 3
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "one bit": flipped,
    "folder": replaced_by_folder,
}


def test_a_rung_whose_digit_changed_is_computed_again_when_its_run_is_logged_again(
    folder: Path, empty_store: Path, run: Run
) -> None:
    path = next(
        path for path in run_files() if path.name == "0002.json" and 'exact_accuracy": 0' in path.read_text()
    )
    whole = json.loads(path.read_text())
    text = path.read_text()
    place = text.index('"heldout_accuracy": 0.') + len('"heldout_accuracy": 0.')
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    Path("before").mkdir()
    Path("mlruns").rename("before/mlruns")
    shutil.copytree(empty_store / "mlruns", "mlruns")

    ended = run("study", "--study", "tiny")

    assert ended.status == 0, ended.err
    [said] = [line for line in ended.err.splitlines() if "damaged" in line]
    assert said == (
        f"note: {path} does not agree with its checksum: it was damaged or changed after it was written;"
        " it is kept as 0002.json.damaged-1 and computed again"
    )
    again = json.loads(path.read_text())
    for timed in ("seconds", "finished_at"):
        del whole["epochs"][0][timed], again["epochs"][0][timed]
    assert again["epochs"] == whole["epochs"]
    assert table(run) == table(run, "before")


@pytest.mark.parametrize("damage", ["empty", "folder"])
def test_all_files_of_all_runs_are_computed_again_to_the_same_numbers(
    damage: str, folder: Path, run: Run
) -> None:
    before, files = table(run), run_files()
    for path in files:
        DAMAGES[damage](path)
    shutil.rmtree("mlruns/artifacts")  # so that the files of final runs are read

    ended = run("study", "--study", "tiny")

    assert ended.status == 0, ended.err
    for path in files:
        assert ended.err.count(f"{path.name}.damaged-1") >= 1
        assert path.with_name(f"{path.name}.damaged-1").exists()
    assert len([line for line in ended.err.splitlines() if "computed again" in line]) == len(files)
    assert [path for path in run_files() if "damaged" not in str(path)] == files
    assert table(run) == before
    assert "damaged" not in run("study", "--study", "tiny").err


def odd_fact(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["checksum"]
    content["facts"]["spaces"] = {"sgd": {"search": [5]}}
    write_sealed(path, content)


def changed_digit(path: Path) -> None:
    path.write_text(path.read_text().replace('"batch_size": 25', '"batch_size": 50'))


@pytest.mark.parametrize(
    "damage", [*DAMAGES.values(), odd_fact, changed_digit], ids=[*DAMAGES, "fact", "digit"]
)
def test_a_damaged_specification_is_one_line_for_each_command(
    damage: Callable[[Path], Any], folder: Path, run: Run
) -> None:
    path = FILES.specification
    damage(path)

    for command in (["study", "--study", "tiny"], ["train", "--study", "tiny"], ["status"]):
        ended = run(*command)
        assert ended.status == 1
        assert str(path) in ended.line
        assert "; move it away and repeat the command that began the study" in ended.line
    assert run("compare", "--study", "tiny").status == 0
    assert run("rm", "tiny", "--yes").status == 0
    assert not FILES.folder.exists()


def test_a_damaged_specification_hides_no_other_study(folder: Path, run: Run) -> None:
    shutil.copytree(FILES.folder, FILES.folder.with_name("other"))
    FILES.specification.write_text("{")

    ended = run("status")

    assert ended.status == 0
    assert "other" in ended.out
    [said] = [line for line in ended.err.splitlines() if "damaged" in line]
    assert said.startswith(f"note: {FILES.specification} is damaged (")


def test_the_command_that_began_a_study_finds_its_runs_when_its_specification_was_moved_away(
    folder: Path, run: Run, tasks: list[str]
) -> None:
    before = table(run)
    FILES.specification.rename("away.json")

    ended = run("study", "--study", "tiny", *tiny.options(**SETTINGS))

    assert ended.status == 0, ended.err
    assert not COMPUTING & set(tasks)
    assert "draw_run" not in tasks
    assert table(run) == before
    assert json.loads(FILES.specification.read_text()) == json.loads(Path("away.json").read_text())


def test_a_changed_best_configuration_is_one_line_and_the_search_restores_it(folder: Path, run: Run) -> None:
    path = FILES.best("sgd")
    whole = path.read_text()
    path.write_text(whole.replace('"lr": 0', '"lr": 1'))

    ended = run("train", "--study", "tiny")

    assert ended.status == 1
    assert ended.line == (
        f"optstudy: {path} does not agree with its checksum: it was damaged or changed after it was written;"
        " `optstudy tune --study tiny --opt sgd` writes it again, or remove its checksum to use its values"
    )
    ended = run("tune", "--study", "tiny", "--opt", "sgd")
    assert ended.status == 0
    assert f"note: {path} does not agree with its checksum" in ended.err
    assert "it is kept as sgd.json.damaged-1, and the search writes it again" in ended.err
    assert path.read_text() == whole
    assert run("train", "--study", "tiny").status == 0


def test_values_of_ones_own_are_trained_once_the_checksum_is_removed_and_a_notice_says_so(
    folder: Path, run: Run
) -> None:
    path = FILES.best("sgd")
    content = json.loads(path.read_text())
    del content["checksum"]
    content["config"]["lr"] = 0.05
    path.write_text(json.dumps(content))

    ended = run("train", "--study", "tiny")

    assert ended.status == 0
    assert (
        "note: the best configuration of sgd in tuning/best/tiny has no checksum: it is used as it is"
        in ended.err
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_best_configuration_is_one_line_for_each_command(
    damage: str, folder: Path, run: Run
) -> None:
    DAMAGES[damage](FILES.best("sgd"))

    ended = run("train", "--study", "tiny")

    assert ended.status == 1
    assert str(FILES.best("sgd")) in ended.line
    assert "; `optstudy tune --study tiny --opt sgd` writes it again" in ended.line
    assert run("status").status == run("compare").status == 0
    assert run("rm", "tiny", "--best", "--yes").status == 0
    assert not FILES.bests.exists()


def test_files_without_checksums_are_counted_in_one_line(folder: Path, run: Run) -> None:
    files = [path for path in run_files() if path.suffix == ".json" and path.stem.isdigit()]
    for path in files:
        content = json.loads(path.read_text())
        del content["checksum"]
        path.write_text(json.dumps(content))

    ended = run("tune", "--study", "tiny")

    assert ended.status == 0
    [said] = [line for line in ended.err.splitlines() if "checksum" in line]
    assert said == (
        "note: study 'tiny': 4 files without a checksum, as earlier versions of optstudy wrote them;"
        " changes to them cannot be detected"
    )


def test_optunas_journal_stops_no_command_whatever_is_in_its_place(folder: Path, run: Run) -> None:
    replaced_by_folder(FILES.journal)

    ended = run("tune", "--study", "tiny")

    assert ended.status == 0
    assert f"note: {FILES.journal} is damaged (" in ended.err
    assert "; it is kept as optuna.log.damaged-1 and written anew" in ended.err
    assert FILES.journal.is_file()
    assert run("status").status == 0


def test_files_of_other_names_in_a_workspace_are_left_alone(folder: Path, run: Run) -> None:
    rungs = FILES.rungs
    places = [rungs, next(rungs.iterdir()), FILES.folder, FILES.folder.parent, FILES.bests]
    for place in places:
        for name in ("notes.json", "0001 (copy).json", "mine.pt"):
            (place / name).write_text("mine")
        (place / "notes").mkdir()

    for command in ("study --study tiny", "status", "compare"):
        ended = run(*command.split())
        assert ended.status == 0, ended.err
    assert {(place / "mine.pt").read_text() for place in places} == {"mine"}


def test_a_state_damaged_while_its_run_is_logged_fails_it_in_one_line_and_the_next_command_ends_it(
    workspace: Path, tasks: list[str]
) -> None:
    notices = []
    events = tiny.study(**SETTINGS).run("training", configs=["default"])
    for event in events:
        if isinstance(event, Notice):
            notices.append(event)
        if isinstance(event, WorkDone) and event.record is not None:  # the last epoch is on disk
            for path in FILES.rungs.glob("*/*.pt"):
                path.write_bytes(path.read_bytes()[:-10])

    *_, said, failed = notices
    assert ".pt does not agree with its checksum" in said.text
    assert failed == Notice(
        "tiny/sgd/default/seed-0 failed: its state after epoch 2 was lost meanwhile", problem=True
    )
    assert studies.texts(tiny.study(**SETTINGS).run("training", configs=["default"])) == []
