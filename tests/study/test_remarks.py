"""What a study refuses or says about data and settings that cannot be meant, before anything is spent on them."""

import re
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny

from optstudy.errors import UsageError
from optstudy.records.location import Location
from optstudy.report.tables.tuning import tuning_table
from optstudy.report.write import write_report
from optstudy.study.driver import Study
from optstudy.study.status import open_recorded, read_statuses
from optstudy.workloads.datasets import load

TWO_CHOICES = """
optimizer = "torch.optim.SGD"
cite = "nobody2020"

[search.lr]
choices = [0.1, 0.01]
why = "Only two."

[default]
lr = 0.1
"""


def label(labels: str) -> None:
    """Give the training images of the workspace other labels."""
    images = Path("images.py")
    images.write_text(
        images.read_text()
        .replace("Dataset(*part(300, 0)", f"x, y = part(300, 0)\n    y = {labels}\n    return Dataset(x, y")
        .replace("return x, y", "x, y")
    )


def refused() -> str:
    with pytest.raises(UsageError) as raised:
        list(tiny.study().run())
    assert not Path("tuning/studies/tiny/specification.json").exists()
    return str(raised.value)


def test_training_labels_that_are_all_the_same_are_refused(workspace: Path) -> None:
    label("torch.full_like(y, 1)")

    assert refused() == (
        "all 240 training examples of a trial are of class 'middle'; train on examples of at least two classes"
    )


@pytest.mark.parametrize(("key", "run"), [("tune_size", "a trial"), ("train_size", "a final run")])
def test_training_labels_that_are_all_the_same_in_one_part_are_refused(
    key: str, run: str, workspace: Path
) -> None:
    label("(torch.arange(300) < 2).long()")

    sizes: dict[str, Any] = {key: 25}

    with pytest.raises(UsageError, match=f"all 25 training examples of {run} are of class 'top'"):
        list(tiny.study(**sizes).run())


def test_a_class_that_is_only_tested_is_named(workspace: Path) -> None:
    label("y.clamp(max=1)")

    told = studies.texts(tiny.study(trials=2, tune_epochs=1, train_epochs=1, seeds=1).run())

    tested = int((load("images.py:load").test_y == 2).sum())
    assert told == [f"class 'low' has no training example in a final run, but {tested} of its test examples"]


def test_a_class_that_a_part_leaves_out_is_named(workspace: Path) -> None:
    label("torch.where(torch.arange(300) < 4, 2, y.clamp(max=1))")

    told = studies.texts(tiny.study(trials=2, tune_epochs=1, train_epochs=1, seeds=1, tune_size=25).run())

    assert "class 'low' has no training example in a trial, but 1 of its validation examples" in told


def test_settings_larger_than_what_there_is_are_said_with_what_is_done(workspace: Path) -> None:
    planned = tiny.study(
        trials=2,
        startup_trials=9,
        finalists=5,
        rung_epochs=9,
        sweep_every=7,
        samples=1000,
        eigen_last=500,
        eigen_every=30,
    ).estimate()

    assert planned.remarks == (
        "finalists is 5, but there are only 2 trials: all that complete are retrained",
        "rung_epochs is 9, but there are only 3 epochs: no trial is stopped early",
        "sweep_every is 7, but there are only 2 epochs: only the last is swept",
        "startup_trials is 9, but there are only 2 trials: all are drawn at random",
        "samples is 1,000, but there are only 300 training examples: curvature is measured on all",
        "eigen_last is 500, but there are only 24 steps: eigenvalues are tracked in all",
        "eigen_every is 30, but there are only 24 steps to track: eigenvalues are measured once",
    )


def test_what_is_not_measured_is_not_remarked_on(workspace: Path) -> None:
    assert tiny.study(samples=0, eigen_last=500, eigen_every=600).estimate().remarks == ()


def test_test_examples_of_one_class_are_said(workspace: Path) -> None:
    images = Path("images.py")
    images.write_text(images.read_text().replace("*part(100, 1)", "part(100, 1)[0], part(100, 1)[1] * 0"))

    assert tiny.study().estimate().remarks == ("all 100 test examples of a final run are of class 'top'",)


def test_a_default_that_is_larger_than_what_there_is_goes_without_saying(workspace: Path) -> None:
    estimate = tiny.study(samples=10).estimate()

    assert estimate.remarks == ()


def test_a_search_that_tried_a_configuration_again_says_how_many_were_distinct(workspace: Path) -> None:
    (workspace / "tuning/spaces/two.toml").write_text(TWO_CHOICES)

    list(tiny.study(optimizers=("two",), trials=4, tune_epochs=1, train_epochs=1, seeds=1).run())

    location = Location(workspace)
    compared = tiny.reopened_study().compare()
    table = tuning_table(compared)
    assert table.rows[0][1] == "4 (2 distinct)"
    assert "only distinct ones count" in table.caption
    assert compared.to_dict()["searches"][0]["distinct"] == 2
    [status] = read_statuses(location)
    assert (status.trials, status.distinct) == (4, 2)


def test_a_citation_without_an_entry_is_said_by_the_study_and_by_its_report(workspace: Path) -> None:
    (workspace / "tuning/spaces/two.toml").write_text(TWO_CHOICES)
    said = "cite is 'nobody2020' in a space file, a key without a BibTeX entry"

    told = studies.texts(tiny.study(optimizers=("two",)).run("training", configs=["default"], seeds=1))
    written = write_report(open_recorded(Location(workspace)), (), workspace / "report")

    assert [said in text for text in (*told, *written.notices)] == [True, True]


def test_an_optimizer_named_twice_is_refused_wherever_it_is_named(workspace: Path) -> None:
    said = re.escape("optimizers has 'sgd' more than once; name it once")
    preset = workspace / "tuning/presets/mine.toml"
    preset.parent.mkdir()
    preset.write_text('optimizers = ["sgd", "adam", "sgd"]')

    with pytest.raises(UsageError, match=f"mine.toml: {said}"):
        Study("mine", preset="mine")
    with pytest.raises(UsageError, match=said):
        tiny.study(optimizers=["sgd", "sgd"])
    with pytest.raises(UsageError, match=said):
        tiny.study().tune(optimizers=["sgd", "sgd"])
    assert not (workspace / "tuning/studies").exists()
