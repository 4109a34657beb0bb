"""`optstudy rm` removes a study and nothing else, and its name is free."""

import fcntl
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny
from commands import Run
from mlflow import MlflowClient
from mlflow.entities import ViewType

from optstudy.study import removal
from optstudy.tracking import Tracking, embedded

SHORT: Mapping[str, Any] = {"trials": 2, "tune_epochs": 1, "train_epochs": 1, "seeds": 1}


@pytest.fixture(scope="session")
def two_studies(once: Callable[[str, Callable[[Path], None]], Path], empty_store: Path) -> Path:
    """A workspace with the studies `tiny` and `other`; only to be copied."""

    def make(folder: Path) -> None:
        shutil.copytree(empty_store, folder, dirs_exist_ok=True)
        tiny.write(folder)
        with studies.inside(folder):
            for name in ("tiny", "other"):
                list(tiny.study(name, **SHORT).run())

    return once("two-studies", make)


@pytest.fixture
def folder(two_studies: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that workspace, and the current folder."""
    with studies.inside(studies.copy(two_studies, tmp_path / "copy")) as copy:
        yield copy


class Terminal(io.StringIO):
    """Standard input at a terminal."""

    def isatty(self) -> bool:
        return True


def answer(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"{text}\n"))


def files(folder: Path) -> dict[Path, bytes]:
    """Return the files of a workspace, without MLflow's database."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "mlflow.db" not in path.name
    }


def experiments(folder: Path, view: int = ViewType.ACTIVE_ONLY) -> set[str]:
    client = MlflowClient(embedded.uri(folder))
    return {found.name for found in client.search_experiments(view_type=view)} - {"Default"}


def test_all_of_a_study_goes_but_its_best_and_other_studies_stay(folder: Path, run: Run) -> None:
    before = files(folder)

    ended = run("rm", "tiny", "--yes")

    assert ended.status == 0
    assert "experiment tiny/final" in ended.out
    assert "tuning/best/tiny is kept; --best removes it, too." in ended.out
    assert ended.err.splitlines()[-1] == "next: optstudy study --study tiny"
    assert files(folder) == {
        path: data for path, data in before.items() if "tiny" not in path.parts or "best" in path.parts
    }
    assert not (folder / "mlruns/artifacts/tiny").exists()
    assert experiments(folder) == {"other/tuning", "other/final"}
    assert run("status").out.count("other") == 1
    assert json.loads(run("compare", "--json").out)["rows"][0]["study"] == "other"


def test_its_name_is_free_for_any_other_study(folder: Path, run: Run) -> None:
    run("rm", "tiny", "--yes", "--best")
    assert not (folder / "tuning/best/tiny").exists()

    changed: dict[str, Any] = {**SHORT, "optimizers": ("adam",), "batch_size": 50, "seeds": 2}
    assert studies.texts(tiny.study(**changed).run()) == []

    compared = tiny.reopened_study().compare()
    assert [(row.optimizer, row.seeds) for row in compared.rows] == [("adam", 2)]
    assert compared.excluded == {}
    assert run("rm", "tiny", "--yes").status == 0
    assert experiments(folder) == {"other/tuning", "other/final"}


def test_json_says_what_went(folder: Path, run: Run) -> None:
    size = sum(
        len(data) for path, data in files(folder).items() if path.parts[:3] == ("mlruns", "artifacts", "tiny")
    )

    content = json.loads(run("rm", "tiny", "--yes", "--json").out)

    assert content["study"] == "tiny"
    assert {one["name"]: one["runs"] for one in content["experiments"]} == {"tiny/final": 1, "tiny/tuning": 3}
    assert [one["path"] for one in content["folders"]] == [
        "mlruns/artifacts/tiny/final",
        "mlruns/artifacts/tiny/tuning",
        "tuning/studies/tiny",
    ]
    assert sum(one["bytes"] for one in content["folders"][:2]) == size
    assert content["kept"] == ["tuning/best/tiny"]


def test_without_a_terminal_yes_is_required(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    before = files(folder)

    ended = run("rm", "tiny")

    assert ended.status == 2
    refusal = ended.err.splitlines()[-1]
    assert refusal.startswith(
        "optstudy: there is no terminal to ask whether to remove study 'tiny' with 4 runs"
    )
    assert refusal.endswith("; give --yes")
    assert ended.out == ""
    assert "experiment tiny/final" in ended.err
    assert "tuning/best/tiny is kept" in ended.err
    assert (files(folder), len(experiments(folder))) == (before, 4)


def test_at_a_terminal_it_asks(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(folder)
    answer("n", monkeypatch)

    ended = run("rm", "tiny")

    assert (ended.status, ended.err) == (1, "optstudy: nothing was removed\n")
    assert "Remove study 'tiny' with 4 runs and" in ended.out
    assert {path for path in files(folder) if path.name != "lock"} == {
        path for path in before if path.name != "lock"
    }
    answer("y", monkeypatch)
    assert run("rm", "tiny").status == 0
    assert experiments(folder) == {"other/tuning", "other/final"}


def test_a_study_that_runs_is_refused(folder: Path, run: Run) -> None:
    with (folder / "tuning/studies/tiny/lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        ended = run("rm", "tiny", "--yes")

    assert ended.status == 2
    assert "study 'tiny' is being run by process" in ended.line
    assert len(experiments(folder)) == 4


@pytest.mark.parametrize("moment", range(6))
def test_interrupted_at_any_moment_it_can_be_repeated(
    moment: int, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def interrupted_at(moment: int, function: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: object, **options: object) -> None:
            if next(calls) == moment:
                raise KeyboardInterrupt
            function(*arguments, **options)

        return called

    rename, delete = MlflowClient.rename_experiment, MlflowClient.delete_experiment
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "rename_experiment", interrupted_at(moment, rename))
        patched.setattr(MlflowClient, "delete_experiment", interrupted_at(moment, delete))
        patched.setattr(removal.shutil, "rmtree", interrupted_at(moment, shutil.rmtree))  # type: ignore[attr-defined]
        assert run("rm", "tiny", "--yes").status == 1

    assert run("rm", "tiny", "--yes").status == 0

    assert experiments(folder) == {"other/tuning", "other/final"}
    assert not (folder / "tuning/studies/tiny").exists()
    assert not (folder / "mlruns/artifacts/tiny").exists()
    assert run("rm", "tiny", "--yes").status == 2


def test_an_experiment_deleted_in_mlflow_is_named_with_how_to_restore_it_or_removed(
    folder: Path, run: Run
) -> None:
    client = MlflowClient(embedded.uri(folder))
    found = client.get_experiment_by_name("tiny/final")
    assert found is not None
    client.delete_experiment(found.experiment_id)

    for command in (
        ["compare", "--study", "tiny"],
        ["report", "--study", "tiny"],
        ["study", "--study", "tiny"],
    ):
        ended = run(*command)
        assert ended.status == 1
        assert "experiment 'tiny/final' was deleted in MLflow; restore it: MLFLOW_TRACKING_URI=" in ended.err
        assert f"mlflow experiments restore --experiment-id {found.experiment_id}; or remove" in ended.err
        assert "or remove study 'tiny' with optstudy rm" in ended.err

    assert run("rm", "tiny", "--yes").status == 0
    assert experiments(folder) == {"other/tuning", "other/final"}
    assert "tiny/final" not in experiments(folder, ViewType.ALL)


def test_a_study_of_which_only_runs_are_left_can_be_removed(folder: Path, run: Run) -> None:
    shutil.rmtree(folder / "tuning/studies/tiny")

    assert run("rm", "tiny", "--yes").status == 0

    assert experiments(folder) == {"other/tuning", "other/final"}


def test_a_study_without_any_store_can_be_removed(folder: Path, run: Run) -> None:
    shutil.rmtree(folder / "mlruns")

    assert run("rm", "tiny", "--yes").status == 0

    assert not (folder / "tuning/studies/tiny").exists()
    assert not (folder / "mlruns").exists()


@pytest.mark.parametrize(
    "place", ["tuning/studies/tiny", "tuning/studies", "tuning", "mlruns/artifacts/tiny", "mlruns"]
)
def test_nothing_outside_of_the_workspace_is_removed_through_a_link(
    place: str, folder: Path, run: Run, tmp_path: Path
) -> None:
    (folder / place).rename(tmp_path / "elsewhere")
    (folder / place).symlink_to(tmp_path / "elsewhere")
    before = files(tmp_path / "elsewhere")

    ended = run("rm", "tiny", "--yes")

    assert ended.status == 2
    assert "is a link to" in ended.line
    assert files(tmp_path / "elsewhere") == before
    assert len(experiments(folder)) == 4


def test_a_link_inside_a_study_is_removed_and_not_followed(folder: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    (folder / "tuning/studies/tiny/link").symlink_to(tmp_path / "mine")

    assert run("rm", "tiny", "--yes").status == 0

    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


@pytest.mark.parametrize("name", ["..", ".", "../copy", "tiny/..", "/", ""])
def test_a_name_that_is_no_study_is_refused(name: str, folder: Path, run: Run) -> None:
    before = files(folder)

    ended = run("rm", name, "--yes")

    assert ended.status == 2
    assert ended.line.startswith(f"optstudy: study name {name!r}: use letters")
    assert files(folder) == before


def test_an_unknown_study_names_the_nearest(folder: Path, run: Run) -> None:
    assert run("rm", "tinny", "--yes").line == (
        "optstudy: no study 'tinny' (did you mean 'tiny'?); there are other, tiny"
    )


def test_runs_on_another_server_are_not_left_behind(folder: Path, run: Run) -> None:
    ended = run("rm", "tiny", "--yes", "--tracking-uri", embedded.uri(folder))

    assert ended.status == 2
    assert (
        ended.line
        == "optstudy: study 'tiny' is logged to the workspace; give no --tracking-uri to remove its runs"
    )


def test_an_address_that_mlflow_does_not_know_removes_nothing(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://")

    ended = run("rm", "tiny", "--yes")

    assert ended.status == 2
    assert "MLflow does not support this address" in ended.line
    assert (folder / "tuning/studies/tiny/specification.json").exists()


def test_of_a_server_no_files_are_removed(folder: Path) -> None:
    server = Tracking(embedded.uri(folder))

    found = server.stored_experiments("tiny")

    assert [(one.name, one.folder) for one in found] == [("tiny/final", None), ("tiny/tuning", None)]
