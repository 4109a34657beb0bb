"""A study whose folder was deleted by hand and that began anew under its name."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny

from optstudy.errors import UsageError
from optstudy.posthoc.find_runs import find_runs
from optstudy.records.location import Location
from optstudy.study.status import earlier_run_notices, read_statuses
from optstudy.tracking import open_existing

SHORT: Mapping[str, Any] = {"trials": 2, "tune_epochs": 1, "train_epochs": 1, "seeds": 1}


def begin(*optimizers: str, **changes: Any) -> list[str]:
    """Run a short study to its end; return its notices."""
    return studies.texts(tiny.study(optimizers=optimizers, **{**SHORT, **changes}).run())


@pytest.fixture(scope="session")
def begun_once(once: Callable[[str, Callable[[Path], None]], Path], empty_store: Path) -> Path:
    """A workspace with a study of SGD and Adam; only to be copied."""

    def make(folder: Path) -> None:
        shutil.copytree(empty_store, folder, dirs_exist_ok=True)
        tiny.write(folder)
        with studies.inside(folder):
            begin("sgd", "adam")

    return once("begun-once", make)


@pytest.fixture
def begun(begun_once: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that workspace, and the current folder."""
    with studies.inside(studies.copy(begun_once, tmp_path / "begun")) as folder:
        yield folder


def begin_anew(*optimizers: str, **changes: Any) -> list[str]:
    shutil.rmtree("tuning/studies/tiny")
    return begin(*optimizers, **changes)


def edit(name: str, old: str, new: str) -> None:
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("settings", "edits"),
    [
        ({"train_epochs": 2}, ()),
        ({"sampler": "random"}, ()),
        ({"margin": 0.01}, ()),
        ({}, ("net.py", "nn.Tanh", "nn.ReLU")),
        ({}, ("images.py", "part(100, 1)", "part(60, 1)")),
    ],
    ids=["training", "tuning", "margin", "model", "data"],
)
def test_no_table_has_runs_of_the_study_before(
    settings: dict[str, Any], edits: tuple[str, ...], begun: Path
) -> None:
    if edits:
        edit(*edits)

    [notice] = begin_anew("sgd", "adagrad", **settings)

    assert notice.startswith("8 runs of an earlier study 'tiny' with another specification are left out")
    compared = tiny.reopened_study().compare()
    assert [row.optimizer for row in compared.rows] == ["sgd", "adagrad"]
    assert [search.optimizer for search in compared.searches] == ["sgd", "adagrad"]
    assert compared.excluded == {
        "of another specification": 2,
        "of another specification's searches": 2,
    }


def test_status_and_commands_for_runs_leave_them_out_too(begun: Path) -> None:
    begin_anew("sgd", trials=1, batch=1)
    location = Location(begun)

    [status] = read_statuses(location)

    assert (status.trials, status.runs) == (1, 1)
    [notice] = earlier_run_notices(open_existing(location), ["tiny"])
    assert notice.startswith("8 runs of an earlier study 'tiny'")
    assert [run.optimizer for run in find_runs(open_existing(location), "tiny")] == ["sgd"]
    with pytest.raises(UsageError, match="no finished run 'adam/seed-0'"):
        find_runs(open_existing(location), "tiny/adam/seed-0")


def test_from_a_server_alone_the_one_written_last_is_compared(begun: Path) -> None:
    begin_anew("sgd", seed=1)
    shutil.rmtree("tuning/studies")
    assert [row.optimizer for row in tiny.reopened_study().compare().rows] == ["sgd"]

    begin("sgd")  # the first one again
    shutil.rmtree("tuning/studies")

    compared = tiny.reopened_study().compare()
    assert [row.optimizer for row in compared.rows] == ["sgd", "adam"]
    assert compared.excluded["of another specification"] == 1


def test_the_same_specification_goes_on_with_its_runs(begun: Path) -> None:
    before = {name: run.info.run_id for name, run in studies.runs(begun, "final").items()}

    notices = begin_anew("sgd")

    assert notices == []
    assert {name: run.info.run_id for name, run in studies.runs(begun, "final").items()} == before
    compared = tiny.reopened_study().compare()
    assert [row.optimizer for row in compared.rows] == ["sgd", "adam"]
    assert compared.excluded == {}


def test_a_search_of_another_space_takes_the_place_of_the_one_before(workspace: Path) -> None:
    begin("unreliable")
    edit("tuning/spaces/unreliable.toml", "high = 0.5", "high = 0.4")

    begin_anew("unreliable")

    [search] = tiny.reopened_study().compare().searches
    [lr] = [item for item in search.space.search if item.name == "lr"]
    assert str(lr) == "from 1e-05 to 0.4"


def test_a_best_configuration_of_the_study_before_is_not_trained_without_a_word(begun: Path) -> None:
    shutil.rmtree("tuning/studies/tiny")

    told = studies.texts(tiny.study(**SHORT).run("training"))
    again = studies.texts(tiny.study(**SHORT).run("tuning"))

    [notice] = told
    assert notice.startswith(
        "study 'tiny' has not been tuned: the best configuration of sgd in tuning/best/tiny is"
    )
    assert again == []
