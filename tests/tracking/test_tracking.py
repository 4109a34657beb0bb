"""What is logged to MLflow is read back, and nothing is logged twice."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from torch import nn

from optstudy.errors import OptstudyError
from optstudy.records.checksums import DamagedError
from optstudy.records.location import Location
from optstudy.records.plan import DatasetDescription
from optstudy.records.run import EpochRecord, FinalRun
from optstudy.tracking import (
    LoggedRun,
    Tracking,
    embedded,
    open_tracking,
    reader,
    save_model,
    writer,
)
from optstudy.tracking.evidence import read_predictions

DATA = DatasetDescription("images.py:load", "ab" * 32, 300, 100, ("top", "low"), (1, 8, 8), "uint8")


def record(epoch: int, **changes: Any) -> EpochRecord:
    values: dict[str, Any] = {
        "epoch": epoch,
        "train_loss": 1 / epoch,
        "train_accuracy": 0.5,
        "heldout_loss": 0.7,
        "heldout_accuracy": 0.6,
        "gradient_norm": 2.5,
        "seconds": 3.0,
        "finished_at": 1_700_000_000.0 + epoch,
        "gradients": 10,
        "hessian_products": 0,
    }
    return EpochRecord(**{**values, **changes})


@pytest.fixture
def store(store_folder: Path) -> Tracking:
    return open_tracking(Location(store_folder))[0]


@pytest.fixture
def client(store_folder: Path) -> MlflowClient:
    """MLflow's own way to read the store."""
    return MlflowClient(embedded.uri(store_folder))


def open_run(tracking: Tracking, name: str = "sgd/seed-0", **options: Any) -> str:
    given: dict[str, Any] = {"key": "k", "tags": {}, "params": {}, "started_at": 1.0, **options}
    return tracking.open_run(given.pop("experiment", "mine/final"), name, **given)


def final_run(tracking: Tracking, study: str, seed: int, outcome: str = "completed", **given: Any) -> str:
    """Write a final run as a study does."""
    run_id = open_run(
        tracking,
        f"sgd/seed-{seed}",
        experiment=f"{study}/final",
        tags={"optstudy.study": study, "optstudy.paper_setting": "true"},
        params={"optimizer": "sgd", "config": "best", "seed": seed, "lr": 0.1},
        started_at=given.get("started_at", 1.0 + seed),
    )
    values = {
        "final/train_accuracy_pct": 98.7,
        "final/test_accuracy_pct": 95.3,
        "final/seconds": 12.0,
        "final/gradient_work": 600.0,
    }
    tracking.log_metrics(run_id, [(name, value, 0, 1.0) for name, value in values.items()])
    tracking.close_run(run_id, outcome, 50.0)
    return run_id


def history(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float, int]]]:
    names = client.get_run(run_id).data.metrics
    return {
        name: [
            (point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, name)
        ]
        for name in names
    }


def test_params_and_tags_are_logged(store: Tracking, client: MlflowClient) -> None:
    run_id = open_run(store, key="of everything", tags={"a": "1"}, params={"lr": 0.1, "nesterov": False})

    run = client.get_run(run_id)

    assert run.info.run_name == "sgd/seed-0"
    assert run.info.status == "RUNNING"
    assert run.info.start_time == 1000
    assert run.data.params == {"lr": "0.1", "nesterov": "False"}
    assert run.data.tags["a"] == "1"
    assert run.data.tags["optstudy.key"] == "of everything"


def test_logging_epochs_again_changes_no_history(store: Tracking, client: MlflowClient) -> None:
    run_id = open_run(store)
    records = [record(1), record(2, exact_loss=0.3, exact_accuracy=0.9, full_gradient_norm=1.5)]
    store.log_epochs(run_id, records, "test")
    before = history(client, run_id)

    store.log_epochs(run_id, records, "test")

    assert history(client, run_id) == before
    assert before["train/loss"] == [(1, 1.0, 1_700_000_001_000), (2, 0.5, 1_700_000_002_000)]
    assert before["full_gradient_norm"] == [(2, 1.5, 1_700_000_002_000)]
    assert before["test/accuracy"] == [(1, 0.6, 1_700_000_001_000), (2, 0.6, 1_700_000_002_000)]


def test_an_unknown_number_is_not_logged(store: Tracking, client: MlflowClient) -> None:
    run_id = open_run(store)

    store.log_epochs(run_id, [record(1, train_loss=None, heldout_loss=None, gradient_norm=None)], "test")

    assert set(history(client, run_id)) == {"train/accuracy", "test/accuracy", "epoch_seconds"}


def test_a_trial_logs_validation_and_never_test(store: Tracking, client: MlflowClient) -> None:
    run_id = open_run(store)

    store.log_epochs(run_id, [record(1)], "validation")

    names = set(history(client, run_id))
    assert {"validation/loss", "validation/accuracy"} <= names
    assert not any(name.startswith("test/") for name in names)


def test_more_metrics_than_fit_a_request_are_all_logged(
    store: Tracking, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PAGE", 3)
    run_id = open_run(store)

    store.log_metrics(run_id, [("x", float(step), step, 1.0) for step in range(8)])

    assert [value for _, value, _ in history(client, run_id)["x"]] == [float(step) for step in range(8)]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("completed", "FINISHED"),
        ("diverged", "FINISHED"),
        ("pruned", "KILLED"),
        ("failed", "FAILED"),
        ("interrupted", "KILLED"),
    ],
)
def test_a_run_ends_in_the_state_of_its_outcome(
    outcome: str, status: str, store: Tracking, client: MlflowClient
) -> None:
    run_id = open_run(store)

    store.close_run(run_id, outcome, 4.0)

    run = client.get_run(run_id)
    assert (run.info.status, run.info.end_time) == (status, 4000)
    assert run.data.tags["optstudy.outcome"] == outcome


def test_an_interrupted_run_goes_on_under_its_id(store: Tracking, client: MlflowClient) -> None:
    run_id = open_run(store, params={"lr": 0.1})
    store.interrupt_open_runs()
    [known] = store.logged_runs("mine/final").values()

    again = open_run(store, params={"lr": 0.1}, logged=known)

    assert known == LoggedRun(run_id, "k", finished=False, ended=False)
    assert again == run_id
    assert client.get_run(run_id).info.status == "RUNNING"


def test_logged_runs_have_their_state_and_omit_superseded_ones(store: Tracking) -> None:
    for seed, outcome in enumerate(("completed", "pruned", "failed", "interrupted", "completed")):
        store.close_run(open_run(store, f"sgd/{seed}"), outcome)
    open_run(store, "sgd/running")
    store.set_tags(store.logged_runs("mine/final")["sgd/4"].run_id, {"optstudy.superseded": "true"})

    known = store.logged_runs("mine/final")

    assert {name: (run.finished, run.ended) for name, run in known.items()} == {
        "sgd/0": (True, True),
        "sgd/1": (False, True),
        "sgd/2": (False, True),
        "sgd/3": (False, False),
        "sgd/running": (False, False),
    }


def test_what_an_earlier_logging_of_the_same_run_left_is_neither_read_nor_damage(store: Tracking) -> None:
    kind = {"optstudy.kind": "final"}
    first = open_run(store, "sgd/seed-3", tags=kind)
    store.set_tags(first, {"optstudy.trace_problem": "MemoryError"})
    store.log_metrics(first, [("final/lambda_1", 8.0, 0, 1.0)])
    store.log_files(first, {"epochs.json": b"[]"})
    store.close_run(first, "completed")
    [known] = store.logged_runs("mine/final").values()

    again = open_run(store, "sgd/seed-3", tags=kind, logged=known)
    store.log_files(again, {"epochs.json": b"[]"})
    store.close_run(again, "completed")

    assert again == first
    [after] = store.logged_runs("mine/final").values()
    assert (after.damage, after.finished, after.trace_problem) == ("", True, "")
    assert known.trace_problem == "MemoryError"


def test_a_missing_experiment_has_no_runs(store: Tracking) -> None:
    assert store.logged_runs("nobody/final") == {}
    assert store.studies() == []
    assert store.experiment_ids("nobody") == {}
    assert store.final_runs(["nobody"]) == ([], {}, [])


def test_trials_are_children_of_their_search(store: Tracking, client: MlflowClient) -> None:
    parent = open_run(store, "sgd", experiment="mine/tuning")
    trial = open_run(store, "sgd/000", experiment="mine/tuning", parent=parent)

    assert client.get_run(trial).data.tags["mlflow.parentRunId"] == parent


def test_final_runs_are_read_as_logged(store: Tracking) -> None:
    run_id = final_run(store, "mine", seed=3, outcome="diverged")

    [run], _, _ = store.final_runs(["mine"])

    assert run == FinalRun(
        margin=0.001,
        run_id=run_id,
        study="mine",
        optimizer="sgd",
        config="best",
        seed=3,
        outcome="diverged",
        train_accuracy=0.987,
        test_accuracy=0.953,
        paper_setting=True,
        seconds=12.0,
        gradient_work=600.0,
        params={"lr": "0.1"},
        files=run.files,
        finished_at=50.0,
        key="k",
    )
    assert run.files.endswith(f"/{run_id}/artifacts")


def test_final_runs_are_read_over_all_pages_and_excluded_ones_are_counted(
    store: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "PAGE", 2)
    for study in ("mine", "other", "third"):
        for seed in range(5):
            final_run(store, study, seed)
    store.set_tags(final_run(store, "mine", 5), {"optstudy.superseded": "true"})
    final_run(store, "mine", 6, outcome="failed")
    final_run(store, "mine", 7, outcome="interrupted")
    open_run(store, "sgd/seed-8")

    runs, excluded, damaged = store.final_runs(["mine", "third"])

    assert [(run.study, run.seed) for run in runs] == [
        (study, seed) for study in ("mine", "third") for seed in range(5)
    ]
    assert excluded == {"superseded": 1, "failed": 1, "unfinished": 2}
    assert damaged == []
    assert sorted(store.studies()) == ["mine", "other", "third"]


def test_the_study_written_last_comes_last(store: Tracking) -> None:
    for moment, study in enumerate(("b", "c", "a")):
        final_run(store, study, seed=0, started_at=100.0 + moment)
    final_run(store, "b", seed=1, started_at=200.0)
    open_run(store, "sgd/000", experiment="d/tuning", started_at=300.0)

    assert store.studies() == ["c", "a", "b"]


def test_the_data_are_the_runs_input(store: Tracking, client: MlflowClient) -> None:
    run_id = open_run(store)

    store.log_dataset(run_id, DATA, "training images")

    inputs = client.get_run(run_id).inputs
    assert inputs is not None
    [used] = inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("images.py:load", "ab" * 8)
    assert used.dataset.profile is not None
    assert "ab" * 32 in used.dataset.profile
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training images")]


def test_artifacts_are_at_the_root_of_the_run(store: Tracking, client: MlflowClient) -> None:
    run_id = open_run(store)

    store.log_files(run_id, {"a.png": b"png", "b.json": b"{}"})

    assert sorted(found.path for found in client.list_artifacts(run_id)) == ["a.png", "b.json"]
    assert Path(client.download_artifacts(run_id, "a.png")).read_bytes() == b"png"


def log_predictions(tracking: Tracking, run_id: str, labels: list[int], predicted: list[int]) -> None:
    """Log predictions as a final run does."""
    file = io.BytesIO()
    np.savez_compressed(file, labels=labels, predicted=predicted)
    tracking.log_files(run_id, {"predictions.npz": file.getvalue()})


def test_images_are_correct_where_prediction_and_label_agree(store: Tracking) -> None:
    one, other = (final_run(store, "mine", seed) for seed in (0, 1))
    log_predictions(store, one, [0, 1, 2, 3], [0, 1, 0, 3])
    log_predictions(store, other, [0, 1, 2, 3], [1, 1, 2, 0])

    runs, _, _ = store.final_runs(["mine"])
    found = {run.run_id: read_predictions(store, run).predictions for run in runs}

    assert {run_id: some and some.correct.tolist() for run_id, some in found.items()} == {
        one: [True, True, False, True],
        other: [False, True, True, False],
    }
    assert {some and some.correct.dtype for some in found.values()} == {np.dtype(bool)}


@pytest.mark.parametrize("data", [b"", b"PK nothing", b"no archive at all"])
def test_damaged_predictions_are_named(store: Tracking, data: bytes) -> None:
    run_id = final_run(store, "mine", 0)
    store.log_files(run_id, {"predictions.npz": data})

    with pytest.raises(
        DamagedError, match=r"^mine/sgd/seed-0 is damaged: its file predictions\.npz is damaged \("
    ):
        read_predictions(store, store.final_runs(["mine"])[0][0])


def test_a_run_without_predictions_has_none(store: Tracking) -> None:
    bare, other, whole = (final_run(store, "mine", seed) for seed in (0, 1, 2))
    store.log_files(other, {"epochs.json": b"[]"})
    log_predictions(store, whole, [0, 1], [0, 0])
    runs, _, _ = store.final_runs(["mine"])
    assert {run.run_id for run in runs} == {bare, other, whole}

    assert {run.run_id for run in runs if read_predictions(store, run).predictions} == {whole}


def test_a_refusal_by_mlflow_is_one_line(store: Tracking) -> None:
    run_id = open_run(store, params={"lr": 0.1})
    known = LoggedRun(run_id, "k", finished=False, ended=False)

    with pytest.raises(OptstudyError, match=r"^MLflow at sqlite:///.* refused: .*param.*'lr'") as raised:
        open_run(store, params={"lr": 0.2}, logged=known)

    assert "\n" not in str(raised.value)


def test_a_run_that_mlflow_returns_is_one_of_ours(store: Tracking, client: MlflowClient) -> None:
    run: Run = client.get_run(open_run(store))

    assert run.data.tags["mlflow.source.name"] == "optstudy"


class TestModels:
    """The model that a run keeps can be loaded by MLflow alone."""

    @pytest.mark.slow  # mlflow.pytorch takes seconds to import
    def test_a_saved_model_gives_the_same_outputs_for_any_number_of_images(
        self, store: Tracking, client: MlflowClient, tmp_path: Path
    ) -> None:
        import mlflow.pytorch

        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3)
        )
        images = torch.rand(7, 1, 8, 8)
        save_model(model.eval(), images[:2], tmp_path / "model")
        run_id = open_run(store)
        store.log_model(run_id, tmp_path / "model", "mine-sgd")

        outputs = client.get_run(run_id).outputs
        assert outputs is not None
        [logged] = outputs.model_outputs
        found = client.get_logged_model(logged.model_id)
        loaded: Any = mlflow.pytorch.load_model(str(Path(found.artifact_location.removeprefix("file://"))))

        assert (found.name, found.status.name) == ("mine-sgd", "READY")
        for count in (1, 2, 7):
            assert torch.equal(loaded(images[:count]), model(images[:count]))

    @pytest.mark.slow
    def test_a_saved_model_names_its_inputs_and_has_an_example(self, tmp_path: Path) -> None:
        from mlflow.models import Model

        example = torch.rand(2, 1, 8, 8)
        save_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval(), example, tmp_path / "model")

        saved: Any = Model.load(str(tmp_path / "model"))

        [inputs], [outputs] = saved.signature.inputs.inputs, saved.signature.outputs.inputs
        assert (inputs.shape, outputs.shape) == ((-1, 1, 8, 8), (-1, 3))
        assert np.array_equal(saved.load_input_example(str(tmp_path / "model")), example.numpy())


def test_artifacts_are_on_disk_before_their_run_is_finished(
    store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut would leave a finished run with empty files."""
    tracking, _ = open_tracking(Location(store_folder))
    run_id = tracking._client.create_run(tracking._experiment("tiny/final")).info.run_id
    flushed: list[Path] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: flushed.append(Path(f"/proc/self/fd/{handle}").readlink())
    )

    tracking.log_files(run_id, {"search.json": b"{}", "model/a.txt": b"a"})

    logged = {path for path in store_folder.rglob(f"{run_id}/**/*") if path.is_file()}
    assert {path.name for path in logged} == {"search.json", "a.txt"}
    assert logged <= {*flushed}
