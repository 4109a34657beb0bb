"""A run is reproduced from its record to the bit, and a changed record is detected."""

import io
import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny
import torch

from optstudy.comparison.read import read_studies
from optstudy.errors import OptstudyError, UsageError
from optstudy.posthoc.reproduce.recorded import (
    RecordedRun,
    recorded_in_archive,
    recorded_in_mlflow,
    weight_series,
)
from optstudy.posthoc.reproduce.rerun import Reproduction, reproduce
from optstudy.records import plan as plan_records
from optstudy.records.location import Location
from optstudy.report.archive import archive, read_archive
from optstudy.tracking import Tracking, embedded, open_tracking
from optstudy.tracking.evidence import read_files

RUN = "tiny/sgd/seed-1"


@pytest.fixture
def finished_copy(finished_copy: Path) -> Path:
    """A copy whose runs have no checksums, since tests change their records; damage is named before all else."""
    studies.drop_checksums(finished_copy)
    return finished_copy


def tracking_of(workspace: Path) -> Tracking:
    return open_tracking(Location(workspace))[0]


def rerun(recorded: list[RecordedRun], tolerance: float = 0.01) -> list[Reproduction]:
    events = reproduce(recorded, tiny.InProcessWorkers(), tolerance)
    return [event for event in events if isinstance(event, Reproduction)]


def reproduced(workspace: Path, tolerance: float = 0.01) -> Reproduction:
    [found] = rerun(recorded_in_mlflow(tracking_of(workspace), RUN), tolerance)
    return found


def run_id(workspace: Path) -> str:
    [run] = [
        run for run in tracking_of(workspace).final_runs(["tiny"])[0] if run.optimizer == "sgd" and run.seed
    ]
    return run.run_id


def change_file(workspace: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file that the run left, as somebody might."""
    [path] = embedded.artifacts(workspace).rglob(f"{run_id(workspace)}/artifacts/{name}")
    path.write_bytes(change(path.read_bytes()))


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def one_weight_changed(data: bytes) -> bytes:
    weights = torch.load(io.BytesIO(data), weights_only=True)
    weights["3.weight"][1, 7] += 1e-6
    return saved(weights)


@pytest.mark.parametrize(
    "value",
    [
        torch.eye(2).to_sparse(),
        torch.zeros(2).to(torch.float8_e4m3fn),
        torch.zeros(2, device="meta"),
        torch.zeros(1).expand(10**12),
    ],
    ids=["sparse", "float8", "meta", "repeated"],
)
def test_recorded_weights_that_cannot_be_compared_are_refused_in_one_line(
    value: torch.Tensor, finished_copy: Path
) -> None:
    change_file(finished_copy, "weights.pt", lambda _: saved({"w": value}))

    with pytest.raises(OptstudyError) as raised:
        recorded_in_mlflow(tracking_of(finished_copy), RUN)

    assert str(raised.value) == (
        f"weights.pt of run {run_id(finished_copy)}: w is not a dense tensor of numbers, which alone can be compared"
    )


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.tensor([torch.nan]),
    ],
    ids=["parameter", "conjugate", "nan"],
)
def test_weights_are_compared_however_torch_holds_them(value: torch.Tensor) -> None:
    [series] = weight_series({"w": value}).values()

    assert series.values.tolist() == pytest.approx(value.tolist(), nan_ok=True)


def json_with(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | changes).encode()


def report_of(workspace: Path) -> Path:
    """Write what a report writes of the study, and return its folder."""
    tracking, folder = tracking_of(workspace), workspace / "report"
    evidence = read_files(tracking, read_studies(tracking, ["tiny"], workspace=workspace))
    folder.mkdir()
    for name, data in archive(evidence).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_run_in_mlflow_is_reproduced_to_the_bit(finished_copy: Path) -> None:
    found = reproduced(finished_copy, tolerance=0.0)

    assert (found.judgement, found.first_difference, found.contradictions, found.differing) == (
        "identical",
        None,
        (),
        {},
    )
    metrics = {one.metric for one in found.metrics}
    assert {"train/loss", "test/accuracy", "eigen/ratio", "final/lambda_2", "predictions"} <= metrics
    assert {"weights/1.weight", "weights/3.bias", "curves/plane", "eigen/angle"} <= metrics
    assert found.absent == ()


def test_all_runs_of_a_study_are_reproduced_also_one_that_diverged(workspace: Path) -> None:
    (workspace / "tuning" / "spaces" / "sgd.toml").write_text(
        'optimizer = "torch.optim.SGD"\n[search.lr]\nlow = 0.1\nhigh = 1e38\nwhy = "x"\n[default]\nlr = 1e38\n'
    )
    list(tiny.study(samples=20, eigen_last=2).run("training", configs=["default"]))

    found = rerun(recorded_in_mlflow(tracking_of(workspace), "tiny"), tolerance=0.0)

    assert {run.outcome for run in tracking_of(workspace).final_runs(["tiny"])[0]} == {"diverged"}
    assert [one.name for one in found] == ["tiny/sgd/default/seed-0", "tiny/sgd/default/seed-1"]
    assert {one.judgement for one in found} == {"identical"}


def test_a_run_in_the_files_of_a_report_is_reproduced_to_the_bit(finished_copy: Path) -> None:
    recorded = recorded_in_archive(read_archive(report_of(finished_copy)), RUN)
    shutil.rmtree(finished_copy / "mlruns")
    [found] = rerun(recorded, tolerance=0.0)

    assert (found.name, found.judgement, found.differing) == (RUN, "identical", {})
    assert {"train/loss", "final/lambda_1", "predictions"} <= {one.metric for one in found.metrics}


def test_one_changed_weight_is_found_and_named(finished_copy: Path) -> None:
    change_file(finished_copy, "weights.pt", one_weight_changed)

    found = reproduced(finished_copy, tolerance=0.0)

    assert found.judgement == "different"
    assert found.first_difference is not None
    assert (found.first_difference.metric, found.first_difference.parted) == ("weights/3.weight", "[1, 7]")
    assert [one.metric for one in found.metrics if one.judgement != "identical"] == ["weights/3.weight"]


def test_within_the_tolerance_the_same_weight_is_named_too(finished_copy: Path) -> None:
    change_file(finished_copy, "weights.pt", one_weight_changed)

    found = reproduced(finished_copy, tolerance=0.01)

    assert found.judgement == "within tolerance"
    assert found.first_difference is not None
    assert found.first_difference.parted == "[1, 7]"


def test_another_seed_parts_at_the_first_epoch_and_is_named(finished_copy: Path) -> None:
    change_file(finished_copy, "plan.json", json_with(seed=2))

    found = reproduced(finished_copy)

    assert found.judgement == "different"
    assert "its plan has seed 2, the run itself seed 1" in found.contradictions
    assert found.first_difference is not None
    assert (found.first_difference.metric, found.first_difference.parted) == ("train/loss", "epoch 1")


def test_another_plan_is_not_the_one_that_the_runs_key_was_made_of(finished_copy: Path) -> None:
    change_file(finished_copy, "plan.json", json_with(batch_size=50))

    assert "its key does not match its plan and source files" in reproduced(finished_copy).contradictions


def test_a_key_by_code_of_other_numbers_says_nothing_of_the_plan(
    finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_records, "FORMAT", plan_records.FORMAT + 1)

    assert reproduced(finished_copy).contradictions == ()


def test_an_epoch_that_was_written_over_is_named(finished_copy: Path) -> None:
    def better(data: bytes) -> bytes:
        records = json.loads(data)
        records[1]["heldout_accuracy"] = 1.0
        return json.dumps(records).encode()

    change_file(finished_copy, "epochs.json", better)

    found = reproduced(finished_copy)

    assert found.first_difference is not None
    assert (found.first_difference.metric, found.first_difference.parted) == ("test/accuracy", "epoch 2")
    assert found.first_difference.there == "1.0"


@pytest.mark.parametrize("name", ["final/test_accuracy", "final/lambda_1"])
def test_a_metric_that_tables_show_and_that_was_written_over_is_named(name: str, finished_copy: Path) -> None:
    metric = {"final/test_accuracy": "final/test_accuracy_pct"}.get(name, name)
    tracking_of(finished_copy).log_metrics(run_id(finished_copy), [(metric, 99.5, 1, time.time() + 60)])

    found = reproduced(finished_copy)

    assert [one.metric for one in found.metrics if one.judgement != "identical"] == [name]


def test_a_chart_that_was_written_over_contradicts_the_runs_own_file(finished_copy: Path) -> None:
    tracking_of(finished_copy).log_metrics(
        run_id(finished_copy), [("test/accuracy", 0.999, 2, time.time() + 60)]
    )

    found = reproduced(finished_copy)

    assert found.contradictions == ("MLflow's test/accuracy differs from its epochs.json",)
    assert found.judgement == "different"
    assert found.first_difference is None


def test_a_hyperparameter_that_is_not_the_plans_is_named(finished_copy: Path) -> None:
    database = embedded.database(finished_copy)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE params SET value = '0.3' WHERE run_uuid = ? AND key = 'lr'", (run_id(finished_copy),)
        )

    assert reproduced(finished_copy).contradictions == ("its parameter lr is 0.3, which is not in its plan",)


def test_what_the_record_lacks_is_named(finished_copy: Path) -> None:
    for name in ("weights.pt", "eigen.npz"):
        [path] = embedded.artifacts(finished_copy).rglob(f"{run_id(finished_copy)}/artifacts/{name}")
        path.unlink()

    found = reproduced(finished_copy)

    assert found.judgement == "identical"
    assert {name.partition("/")[0] for name in found.absent} == {"weights", "eigen"}


def test_a_beginning_of_several_ids_means_none_of_them(finished_copy: Path) -> None:
    folder = report_of(finished_copy)

    with pytest.raises(UsageError, match="no run '' in the report"):
        recorded_in_archive(read_archive(folder), "")
    runs = read_archive(folder)
    same = replace(
        runs,
        runs=tuple(replace(one, run=replace(one.run, run_id=f"a{n}")) for n, one in enumerate(runs.runs)),
    )
    with pytest.raises(UsageError, match="runs begin with 'a'; use a longer prefix"):
        recorded_in_archive(same, "a")


def test_each_run_of_a_study_is_held_to_its_own_files(finished_copy: Path) -> None:
    recorded = recorded_in_mlflow(tracking_of(finished_copy), "tiny")

    found = rerun(recorded)

    assert {name for run in recorded for name in run.provenance.sources or ()} == {
        "images.py",
        "net.py",
        "unreliable.py",
    }
    assert [one.differing for one in found if one.differing] == []


def test_another_torch_is_named_and_the_run_is_made_again_all_the_same(finished_copy: Path) -> None:
    tracking_of(finished_copy).set_tags(run_id(finished_copy), {"optstudy.version.torch": "2.9.0"})

    found = reproduced(finished_copy)

    there, here = found.differing["torch"]
    assert (there, here.split("+")[0]) == ("2.9.0", torch.__version__.split("+")[0])
    assert (found.judgement, found.contradictions) == ("identical", ())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("processor", "processor"),
        ("threads", "threads"),
        ("flags", "flags"),
        ("optstudy_commit", "optstudy's commit"),
    ],
)
def test_another_machine_is_named(name: str, what: str, finished_copy: Path) -> None:
    tracking_of(finished_copy).set_tags(run_id(finished_copy), {f"optstudy.environment.{name}": "other"})

    assert [(each, there) for each, (there, _) in reproduced(finished_copy).differing.items()] == [
        (what, "other")
    ]


def test_a_changed_source_file_is_named_before_all_else(finished_copy: Path) -> None:
    with (finished_copy / "net.py").open("a") as file:
        file.write("# a word\n")

    found = reproduced(finished_copy)

    assert next(iter(found.differing)) == "net.py"
    assert found.judgement == "identical"


def test_a_record_from_before_machines_were_recorded_says_so(finished_copy: Path) -> None:
    client, run = tracking_of(finished_copy)._client, run_id(finished_copy)
    for tag in ("optstudy.environment.instructions", "optstudy.environment.flags", "optstudy.sources"):
        client.delete_tag(run, tag)

    found = reproduced(finished_copy)

    assert set(found.unrecorded) == {"the user's files", "instructions", "flags"}
    assert (found.judgement, found.differing, found.contradictions) == ("identical", {}, ())
