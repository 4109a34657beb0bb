"""A finished study of a user's own data and model: what it writes to the workspace and to MLflow."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import studies
import tiny
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from torch.nn import functional

from optstudy.curvature import hessian, trace
from optstudy.errors import UsageError
from optstudy.records.forms import from_json
from optstudy.records.plan import Plan
from optstudy.study.driver import Study
from optstudy.tracking import embedded
from optstudy.training import sample_images
from optstudy.training.curvature import TRACE_PRODUCTS
from optstudy.workloads.batches import prepare
from optstudy.workloads.datasets import load
from optstudy.workloads.splits import load_split
from optstudy.workloads.user_code import load_object

STATUS = {"completed": "FINISHED", "diverged": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def trials_of(workspace: Path, search: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(studies.artifact(workspace, search, "search.json"))["searched"][
        "trials"
    ]
    return found


class TestFinished:
    """A study that has run to its end."""

    def test_it_has_an_experiment_for_trials_and_one_for_final_runs(self, finished: Path) -> None:
        experiments = {found.name for found in MlflowClient(embedded.uri(finished)).search_experiments()}

        assert experiments - {"Default"} == {"tiny/tuning", "tiny/final"}

    def test_trials_lie_under_the_search_of_their_optimizer(self, finished: Path) -> None:
        found = studies.runs(finished, "tuning")

        assert set(found) == {"sgd", "unreliable"} | {
            f"{optimizer}/{number:03d}" for optimizer in ("sgd", "unreliable") for number in range(6)
        }
        for name, run in found.items():
            optimizer, separator, _ = name.partition("/")
            parent = found[optimizer].info.run_id if separator else None
            assert run.data.tags.get("mlflow.parentRunId") == parent

    def test_every_trial_ended_in_the_state_that_the_search_gave_it(self, finished: Path) -> None:
        found = studies.runs(finished, "tuning")
        seen = set()

        for optimizer in ("sgd", "unreliable"):
            for trial in trials_of(finished, found[optimizer]):
                run = found[f"{optimizer}/{trial['number']:03d}"]
                assert run.info.status == STATUS[trial["state"]]
                assert run.data.tags["optstudy.outcome"] == trial["state"]
                assert run.data.params["lr"] == str(trial["params"]["lr"])
                seen.add(trial["state"])

        assert seen == {"completed", "pruned", "failed"}

    def test_a_failed_trial_says_why_and_the_rest_went_on(self, finished: Path) -> None:
        found = studies.runs(finished, "tuning")

        assert found["unreliable/000"].data.tags["optstudy.problem"] == "RuntimeError: no step in this mode"
        assert found["unreliable/001"].info.status == "FINISHED"
        assert found["unreliable"].info.status == "FINISHED"

    def test_trials_log_validation_and_never_the_test_set(self, finished: Path) -> None:
        for name, run in studies.runs(finished, "tuning").items():
            assert not any(metric.startswith(("test/", "final/")) for metric in run.data.metrics)
            if run.info.status == "FINISHED" and "/" in name:
                assert {"validation/loss", "validation/accuracy", "gradient_work"} <= set(run.data.metrics)

    def test_a_search_has_its_figures_and_its_trials(self, finished: Path) -> None:
        client = MlflowClient(embedded.uri(finished))

        for optimizer in ("sgd", "unreliable"):
            run = studies.runs(finished, "tuning")[optimizer]
            names = {found.path for found in client.list_artifacts(run.info.run_id)}
            figures = {"history.png", "importances.png", "slices.png", "learning_rate.png"}
            assert names == figures | {"search.json"}
            for name in figures:
                assert studies.artifact(finished, run, name).startswith(b"\x89PNG")

    def test_the_best_configuration_is_kept_with_where_it_comes_from(self, finished: Path) -> None:
        trials = trials_of(finished, studies.runs(finished, "tuning")["sgd"])
        completed = [trial for trial in trials if trial["state"] == "completed"]
        winner = max(completed, key=lambda trial: trial["score"])

        kept = studies.best(finished, "sgd")

        assert (kept["optimizer"], kept["trial"], kept["trials"]) == ("sgd", winner["number"], 6)
        assert kept["config"] == winner["params"]
        assert kept["score"] == winner["score"]
        assert kept["objective"] == "validation accuracy"
        assert kept["epochs"] == 3
        assert kept["seed"] == 0
        assert kept["gradient_work"] == sum(trial["gradient_work"] for trial in trials)
        assert set(kept["versions"]) == {"optstudy", "optuna", "torch"}
        assert "commit" in kept

    def test_every_seed_of_the_best_configuration_has_a_final_run(self, finished: Path) -> None:
        found = studies.runs(finished, "final")

        assert set(found) == {f"{name}/seed-{seed}" for name in ("sgd", "unreliable") for seed in (0, 1)}
        for name, run in found.items():
            optimizer, seed = name.split("/seed-")
            config = {key: str(value) for key, value in studies.best(finished, optimizer)["config"].items()}
            assert run.info.status == "FINISHED"
            assert run.data.params == {"optimizer": optimizer, "config": "best", "seed": seed, **config}
            assert "mlflow.parentRunId" not in run.data.tags  # the compare page works on flat runs

    def test_final_runs_have_the_metrics_that_others_rely_on(self, finished: Path) -> None:
        client = MlflowClient(embedded.uri(finished))

        for run in studies.runs(finished, "final").values():
            by_epoch = {"train/loss", "train/accuracy", "test/loss", "test/accuracy", "gradient_norm"}
            for name in by_epoch:
                history = client.get_metric_history(run.info.run_id, name)
                assert [point.step for point in history] == [1, 2]
            assert set(run.data.metrics) >= by_epoch | {
                "full_gradient_norm", "final/train_accuracy_pct", "final/test_accuracy_pct", "final/seconds",
                "final/gradient_work",
            }  # fmt: skip
            assert run.data.metrics["final/gradient_work"] == 24  # 2 epochs of 300 images at batch 25
            assert run.data.metrics["final/test_accuracy_pct"] == 100 * run.data.metrics["test/accuracy"]

    def test_final_runs_log_the_eigenvalues_of_their_last_steps_and_the_ratio_where_they_ended(
        self, finished: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(finished)
        client = MlflowClient(embedded.uri(finished))
        plan = from_json(
            Plan,
            studies.artifact(finished, studies.runs(finished, "final")["sgd/seed-0"], "plan.json"),
            "plan.json",
        )
        batch = sample_images(load_split(plan.dataset, plan.split)[0], 20, seed=0, device="cpu")

        for run in studies.runs(finished, "final").values():
            traced = client.get_metric_history(run.info.run_id, "eigen/ratio")
            assert [point.step for point in traced] == [20, 21, 22, 23]  # of 2 epochs of 12 steps
            model = load_object(plan.model)()
            model.load_state_dict(
                torch.load(io.BytesIO(studies.artifact(finished, run, "weights.pt")), weights_only=True)
            )
            assert isinstance(batch, tuple)
            dense = oracles.dense_hessian(model, functional.cross_entropy, batch).numpy()
            eigenvalues = np.linalg.eigvalsh(dense)
            first, second = sorted(eigenvalues, key=abs, reverse=True)[:2]
            metrics = run.data.metrics
            assert metrics["final/lambda_1"] == pytest.approx(first, rel=1e-4)
            assert metrics["final/lambda_2"] == pytest.approx(second, rel=1e-4)
            assert metrics["final/ratio_low"] <= abs(first / second) <= metrics["final/ratio_high"]
            estimate = trace(hessian(model.eval(), functional.cross_entropy, batch), TRACE_PRODUCTS)
            assert metrics["final/trace"] == pytest.approx(estimate.value, rel=1e-4)
            assert metrics["final/loss_rise"] > 0

    def test_final_runs_have_the_same_artifacts_at_their_root(self, finished: Path) -> None:
        client = MlflowClient(embedded.uri(finished))

        for run in studies.runs(finished, "final").values():
            assert {
                found.path for found in client.list_artifacts(run.info.run_id)
            } == studies.FILES | studies.CURVATURE_FILES
            assert studies.artifact(finished, run, "confusion.png").startswith(b"\x89PNG")
            epochs = json.loads(studies.artifact(finished, run, "epochs.json"))
            assert [epoch["heldout_accuracy"] for epoch in epochs][-1] == run.data.metrics["test/accuracy"]

    def test_the_weights_of_a_run_give_the_accuracy_that_it_logged(self, finished_copy: Path) -> None:
        dataset = load("images.py:load")
        model = load_object("net.py:make")()

        for run in studies.runs(finished_copy, "final").values():
            content = studies.artifact(finished_copy, run, "weights.pt")
            model.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
            with torch.no_grad():
                predicted = model(prepare(dataset.test_x)).argmax(1)
            kept = np.load(io.BytesIO(studies.artifact(finished_copy, run, "predictions.npz")))

            assert np.array_equal(kept["predicted"], predicted)
            assert np.array_equal(kept["labels"], dataset.test_y)
            right = int((predicted == dataset.test_y).sum())
            assert run.data.metrics["final/test_accuracy_pct"] == pytest.approx(
                right, abs=1e-9
            )  # of 100 images

    def test_final_runs_name_their_data(self, finished: Path) -> None:
        for run in studies.runs(finished, "final").values():
            assert run.inputs is not None
            [used] = run.inputs.dataset_inputs
            assert used.dataset.name == "images.py:load"
            assert used.dataset.profile is not None
            assert {"train": 300, "test": 100}.items() <= json.loads(used.dataset.profile).items()

    def test_final_runs_say_in_words_what_they_are(self, finished: Path) -> None:
        note = studies.runs(finished, "final")["sgd/seed-1"].data.tags["mlflow.note.content"]

        assert note.startswith("**SGD**, configuration *best* (chosen by this study's search")
        assert "seed 1" in note
        assert (
            "`net.py:make` on `images.py:load`: 300 training examples, 2 epochs at batch 25; 100 test examples"
            in note
        )

    def test_the_first_seed_of_a_row_keeps_a_model(self, finished: Path) -> None:
        found = studies.runs(finished, "final")

        kept = {name for name, run in found.items() if run.outputs and run.outputs.model_outputs}

        assert kept == {"sgd/seed-0", "unreliable/seed-0"}

    def test_the_table_is_printed_alone_and_the_next_command_named(self, finished: Path) -> None:
        output, errors = (finished / "output.txt").read_text(), (finished / "errors.txt").read_text()

        assert "SGD" in output
        assert "unreliable" in output
        assert "next:" not in output
        assert errors.splitlines()[-1] == "next: optstudy ui --study tiny"
        assert "best is trial" in errors
        assert "Warning" not in errors
        assert "Traceback" not in errors


class TestPython:
    """The same from a program of the user's own."""

    PROGRAM = """
from optstudy import Study

def main():
    study = Study("mine", model=make, dataset=load, optimizers=["sgd"], jobs=1, batch=2, tune_epochs=1,
                  tune_size=0, validation=60, train_epochs=1, batch_size=25)
    found = study.tune(trials=2)
    frame = study.train(seeds=2).to_pandas()
    print(found["sgd"].best.number, frame["optimizer"].tolist(), frame["seeds"].tolist(), study.specification.model)
"""

    def run(self, workspace: Path, ending: str) -> "subprocess.CompletedProcess[str]":
        (workspace / "program.py").write_text(tiny.IMAGES + tiny.NET + self.PROGRAM + ending)
        return subprocess.run(
            [sys.executable, "program.py"], cwd=workspace, capture_output=True, text=True, check=False
        )

    @pytest.mark.slow
    def test_a_program_tunes_trains_and_compares(self, workspace: Path) -> None:
        done = self.run(workspace, "if __name__ == '__main__':\n    main()\n")

        assert done.returncode == 0, done.stderr
        number, rest = done.stdout.split(" ", 1)
        assert number in "01"
        assert rest == "['sgd'] [2] program.py:make\n"
        assert done.stderr == ""

    @pytest.mark.slow
    def test_a_program_without_a_guard_gets_an_error_about_it(self, workspace: Path) -> None:
        done = self.run(workspace, "main()\n")

        assert done.returncode == 1
        said = done.stderr.splitlines()[-1]
        assert said.endswith("by the study's workers; move the study under: if __name__ == '__main__':")
        assert studies.rung_times(workspace, "mine") == {}

    def test_a_lambda_is_refused_with_what_would_do(self, user_files: Path) -> None:
        with pytest.raises(
            UsageError, match=r"^.*<lambda> cannot be imported by another process; define it at"
        ):
            Study("mine", model=lambda: torch.nn.Linear(1, 1))

    def test_a_name_alone_is_no_list_of_optimizers(self, user_files: Path) -> None:
        with pytest.raises(UsageError, match="^optimizers is 'sgd'; it must be a list of names$"):
            Study("mine", optimizers="sgd")
        with pytest.raises(UsageError, match="^optimizers is 'sgd'; it must be a list of names$"):
            tiny.study().tune(optimizers="sgd")

    def test_describing_a_study_writes_nothing(self, user_files: Path) -> None:
        before = sorted(user_files.rglob("*"))

        Study("mine", preset="smoke")

        assert sorted(user_files.rglob("*")) == before
