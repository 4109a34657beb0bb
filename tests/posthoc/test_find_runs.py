"""Runs are found by study, name, ID or its beginning, and what they left behind is read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import studies
from mlflow import MlflowClient

from optstudy.errors import OptstudyError, UsageError
from optstudy.posthoc.find_runs import find_runs, matching_runs, read_plan, read_subject
from optstudy.posthoc.samples import Sample, default_sample
from optstudy.records.checksums import DamagedError
from optstudy.records.location import Location
from optstudy.records.run import FinalRun
from optstudy.tracking import Tracking, embedded, open_tracking

NAMES = ["sgd/seed-0", "sgd/seed-1", "unreliable/seed-0", "unreliable/seed-1"]


@pytest.fixture
def tracking(finished: Path) -> Tracking:
    return open_tracking(Location(finished))[0]


def files_of(workspace: Path, run: FinalRun) -> Path:
    uri = MlflowClient(embedded.uri(workspace)).get_run(run.run_id).info.artifact_uri
    return Path(unquote(urlsplit(uri).path))


def test_a_study_is_all_its_final_runs(tracking: Tracking) -> None:
    assert sorted(run.id.name for run in find_runs(tracking, "tiny")) == NAMES


def test_a_run_is_found_by_name_id_and_beginning(tracking: Tracking) -> None:
    [run] = find_runs(tracking, "tiny/sgd/seed-1")

    assert run.id.name == "sgd/seed-1"
    assert find_runs(tracking, run.run_id) == [run]
    assert find_runs(tracking, run.run_id[:12]) == [run]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tini", "'tini' is not a study, run or run ID (did you mean 'tiny'?); there are tiny"),
        ("nobody/sgd/seed-0", "'nobody/sgd/seed-0' is not a study, run or run ID; there are tiny"),
        ("0" * 32, f"'{'0' * 32}' is not a study, run or run ID; there are tiny"),
        ("tiny/sgd/seed-9", "study 'tiny' has no finished run 'sgd/seed-9' (did you mean 'sgd/seed-"),
        ("tiny/", "study 'tiny' has no finished run ''; there are sgd/seed-"),
        ("", "4 runs begin with ''; use a longer prefix"),
    ],
)
def test_what_names_no_run_is_refused_with_what_there_is(target: str, said: str, tracking: Tracking) -> None:
    with pytest.raises(UsageError) as raised:
        find_runs(tracking, target)

    assert str(raised.value).startswith(said)


def test_a_prefix_of_several_ids_is_refused(tracking: Tracking) -> None:
    runs = [replace(run, run_id=f"abcdef{n}") for n, run in enumerate(find_runs(tracking, "tiny"))]

    with pytest.raises(UsageError, match="4 runs begin with 'abc'; use a longer prefix"):
        matching_runs(runs, "abc")


def test_the_runs_of_one_optimizer_have_a_name_too(tracking: Tracking) -> None:
    assert find_runs(tracking, "tiny/sgd") == [
        run for run in find_runs(tracking, "tiny") if run.optimizer == "sgd"
    ]


def test_a_study_without_final_runs_says_so(store_folder: Path) -> None:
    client = MlflowClient(embedded.uri(store_folder))
    for kind in ("tuning", "final"):
        client.create_experiment(f"young/{kind}")
    found = open_tracking(Location(store_folder))[0]

    with pytest.raises(UsageError, match="^study 'young' has no finished final runs yet$|is no study"):
        find_runs(found, "young")


def test_a_run_knows_its_plan_its_sample_and_its_points(tracking: Tracking) -> None:
    [run] = find_runs(tracking, "tiny/sgd/seed-0")
    plan = read_plan(tracking, run)

    assert (plan.seed, plan.epochs, plan.model) == (0, 2, "net.py:make")
    assert default_sample(plan) == Sample(20, 0)
    assert read_subject(tracking, run, "end").weights is not None
    assert [read_subject(tracking, run, at).epoch for at in ("start", "middle", "end")] == [0, 1, 2]


def test_a_run_whose_files_are_gone_says_which_and_how_to_have_them_again(finished_copy: Path) -> None:
    tracking = open_tracking(Location(finished_copy))[0]
    [run] = find_runs(tracking, "tiny/sgd/seed-0")
    files = files_of(finished_copy, run)

    (files / "weights.pt").unlink()
    with pytest.raises(
        OptstudyError,
        match=f"^{run.id} has no weights.pt in sqlite:.* \\(run {run.run_id}\\); .*to restore it$",
    ):
        read_subject(tracking, run, "end")
    assert read_subject(tracking, run, "start").weights is None
    shutil.rmtree(files)
    with pytest.raises(OptstudyError, match=f"^{run.id} has no plan.json in "):
        read_subject(tracking, run, "start")


@pytest.mark.parametrize("content", ["", "{}", "[1]", json.dumps({"epochs": 3})])
def test_a_plan_that_says_nothing_sensible_is_refused_by_the_runs_name(
    content: str, finished_copy: Path
) -> None:
    studies.drop_checksums(finished_copy)
    tracking = open_tracking(Location(finished_copy))[0]
    [run] = find_runs(tracking, "tiny/sgd/seed-0")
    (files_of(finished_copy, run) / "plan.json").write_text(content)

    said = "^tiny/sgd/seed-0 is damaged: its file plan.json(: dataset)? is .*; delete its run in MLflow, and .* again$"
    with pytest.raises(DamagedError, match=said):
        read_plan(tracking, run)
