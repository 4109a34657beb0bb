"""A whole study of a user's own data and model: what it leaves in the workspace and in MLflow, and goes on from."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import tiny
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from torch.nn import functional

from optstudy.errors import OptstudyError, UsageError
from optstudy.optimizers import load_space
from optstudy.records.forms import from_json
from optstudy.records.plan import Plan
from optstudy.records.search import SearchResult
from optstudy.study.driver import Study
from optstudy.study.events import Event, Notice, RunEnded, TrialEnded, WorkDone
from optstudy.study.plans import final_plan
from optstudy.study.specification import Specification
from optstudy.study.workspace import read_recorded
from optstudy.tracking import embedded
from optstudy.training import run_rung_on, sample_images
from optstudy.workloads import datasets
from optstudy.workloads.batches import prepare
from optstudy.workloads.datasets import load, load_description
from optstudy.workloads.splits import load_split
from optstudy.workloads.user_code import load_object

STATUS = {"completed": "FINISHED", "diverged": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
ROOT = {
    "gradient_norm.png",
    "confusion.png",
    "predictions.npz",
    "weights.pt",
    "epochs.json",
    "plan.json",
    "study.json",
}
CURVATURE = {
    "eigen_ratio.png",
    "spectrum.png",
    "landscape_1d.png",
    "landscape_2d.png",
    "eigen.npz",
    "analysis.npz",
}


def runs(workspace: Path, experiment: str) -> dict[str, Run]:
    """Return an experiment's runs by name; a name must be there once."""
    client = MlflowClient(embedded.uri(workspace))
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    listed = client.search_runs([found.experiment_id])
    assert len({run.info.run_name for run in listed}) == len(listed)
    return {run.info.run_name: run for run in listed}


def artifact(workspace: Path, run: Run, name: str) -> bytes:
    return Path(MlflowClient(embedded.uri(workspace)).download_artifacts(run.info.run_id, name)).read_bytes()


def trials_of(workspace: Path, search: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(artifact(workspace, search, "search.json"))["searched"]["trials"]
    return found


def best(workspace: Path, optimizer: str, study: str = "tiny") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (workspace / "tuning" / "best" / study / f"{optimizer}.json").read_text()
    )
    return found


def rung_files(workspace: Path, study: str = "tiny") -> dict[Path, int]:
    """Return the rungs on disk, each with the moment at which it was written."""
    folder = workspace / "tuning" / "studies" / study / "rungs"
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("[0-9]*.json")}


def texts(events: Iterable[Event], *, problem: bool = False) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice) and event.problem == problem]


class TestFinished:
    """A study that has run to its end."""

    def test_it_has_an_experiment_for_trials_and_one_for_final_runs(self, finished: Path) -> None:
        experiments = {found.name for found in MlflowClient(embedded.uri(finished)).search_experiments()}

        assert experiments - {"Default"} == {"tiny/tuning", "tiny/final"}

    def test_trials_lie_under_the_search_of_their_optimizer(self, finished: Path) -> None:
        found = runs(finished, "tiny/tuning")

        assert set(found) == {"sgd", "touchy"} | {
            f"{optimizer}/{number:03d}" for optimizer in ("sgd", "touchy") for number in range(6)
        }
        for name, run in found.items():
            optimizer, separator, _ = name.partition("/")
            parent = found[optimizer].info.run_id if separator else None
            assert run.data.tags.get("mlflow.parentRunId") == parent

    def test_every_trial_ended_in_the_state_that_the_search_gave_it(self, finished: Path) -> None:
        found = runs(finished, "tiny/tuning")
        seen = set()

        for optimizer in ("sgd", "touchy"):
            for trial in trials_of(finished, found[optimizer]):
                run = found[f"{optimizer}/{trial['number']:03d}"]
                assert run.info.status == STATUS[trial["state"]]
                assert run.data.tags["optstudy.outcome"] == trial["state"]
                assert run.data.params["lr"] == str(trial["params"]["lr"])
                seen.add(trial["state"])

        assert seen == {"completed", "pruned", "failed"}

    def test_a_failed_trial_says_why_and_the_rest_went_on(self, finished: Path) -> None:
        found = runs(finished, "tiny/tuning")

        assert found["touchy/000"].data.tags["optstudy.problem"] == "RuntimeError: no step today"
        assert found["touchy/001"].info.status == "FINISHED"
        assert found["touchy"].info.status == "FINISHED"

    def test_trials_log_validation_and_never_the_test_set(self, finished: Path) -> None:
        for name, run in runs(finished, "tiny/tuning").items():
            assert not any(metric.startswith(("test/", "final/")) for metric in run.data.metrics)
            if run.info.status == "FINISHED" and "/" in name:
                assert {"validation/loss", "validation/accuracy", "gradient_work"} <= set(run.data.metrics)

    def test_a_search_has_its_figures_and_its_trials(self, finished: Path) -> None:
        client = MlflowClient(embedded.uri(finished))

        for optimizer in ("sgd", "touchy"):
            run = runs(finished, "tiny/tuning")[optimizer]
            names = {found.path for found in client.list_artifacts(run.info.run_id)}
            figures = {"history.png", "importances.png", "slices.png", "learning_rate.png"}
            assert names == figures | {"search.json"}
            for name in figures:
                assert artifact(finished, run, name).startswith(b"\x89PNG")

    def test_the_best_configuration_is_kept_with_where_it_comes_from(self, finished: Path) -> None:
        trials = trials_of(finished, runs(finished, "tiny/tuning")["sgd"])
        completed = [trial for trial in trials if trial["state"] == "completed"]
        winner = max(completed, key=lambda trial: trial["score"])

        kept = best(finished, "sgd")

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
        found = runs(finished, "tiny/final")

        assert set(found) == {f"{name}/seed-{seed}" for name in ("sgd", "touchy") for seed in (0, 1)}
        for name, run in found.items():
            optimizer, seed = name.split("/seed-")
            config = {key: str(value) for key, value in best(finished, optimizer)["config"].items()}
            assert run.info.status == "FINISHED"
            assert run.data.params == {"optimizer": optimizer, "config": "best", "seed": seed, **config}
            assert "mlflow.parentRunId" not in run.data.tags  # the compare page works on flat runs

    def test_final_runs_have_the_metrics_that_others_rely_on(self, finished: Path) -> None:
        client = MlflowClient(embedded.uri(finished))

        for run in runs(finished, "tiny/final").values():
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
            Plan, artifact(finished, runs(finished, "tiny/final")["sgd/seed-0"], "plan.json"), "plan.json"
        )
        batch = sample_images(load_split(plan.dataset, plan.split)[0], 20, seed=0, device="cpu")

        for run in runs(finished, "tiny/final").values():
            traced = client.get_metric_history(run.info.run_id, "eigen/ratio")
            assert [point.step for point in traced] == [20, 21, 22, 23]  # of 2 epochs of 12 steps
            model = load_object(plan.model)()
            model.load_state_dict(
                torch.load(io.BytesIO(artifact(finished, run, "weights.pt")), weights_only=True)
            )
            assert isinstance(batch, tuple)
            dense = oracles.dense_hessian(model, functional.cross_entropy, batch).numpy()
            eigenvalues = np.linalg.eigvalsh(dense)
            first, second = sorted(eigenvalues, key=abs, reverse=True)[:2]
            metrics = run.data.metrics
            assert metrics["final/lambda_1"] == pytest.approx(first, rel=1e-4)
            assert metrics["final/lambda_2"] == pytest.approx(second, rel=1e-4)
            assert metrics["final/ratio_low"] <= abs(first / second) <= metrics["final/ratio_high"]
            assert metrics["final/trace"] == pytest.approx(np.trace(dense), rel=0.2)
            assert metrics["final/loss_rise"] > 0

    def test_final_runs_have_the_same_artifacts_at_their_root(self, finished: Path) -> None:
        client = MlflowClient(embedded.uri(finished))

        for run in runs(finished, "tiny/final").values():
            assert {found.path for found in client.list_artifacts(run.info.run_id)} == ROOT | CURVATURE
            assert artifact(finished, run, "confusion.png").startswith(b"\x89PNG")
            epochs = json.loads(artifact(finished, run, "epochs.json"))
            assert [epoch["heldout_accuracy"] for epoch in epochs][-1] == run.data.metrics["test/accuracy"]

    def test_the_weights_of_a_run_give_the_accuracy_that_it_logged(self, finished_copy: Path) -> None:
        dataset = load("images.py:load")
        model = load_object("net.py:make")()

        for run in runs(finished_copy, "tiny/final").values():
            content = artifact(finished_copy, run, "weights.pt")
            model.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
            with torch.no_grad():
                predicted = model(prepare(dataset.test_x)).argmax(1)
            kept = np.load(io.BytesIO(artifact(finished_copy, run, "predictions.npz")))

            assert np.array_equal(kept["predicted"], predicted)
            assert np.array_equal(kept["labels"], dataset.test_y)
            right = int((predicted == dataset.test_y).sum())
            assert run.data.metrics["final/test_accuracy_pct"] == pytest.approx(
                right, abs=1e-9
            )  # of 100 images

    def test_final_runs_name_their_data(self, finished: Path) -> None:
        for run in runs(finished, "tiny/final").values():
            assert run.inputs is not None
            [used] = run.inputs.dataset_inputs
            assert used.dataset.name == "images.py:load"
            assert used.dataset.profile is not None
            assert {"train": 300, "test": 100}.items() <= json.loads(used.dataset.profile).items()

    def test_final_runs_say_in_words_what_they_are(self, finished: Path) -> None:
        note = runs(finished, "tiny/final")["sgd/seed-1"].data.tags["mlflow.note.content"]

        assert note.startswith("**SGD**, configuration *best* (chosen by this study's search")
        assert "seed 1" in note
        assert (
            "`net.py:make` on `images.py:load`: 300 training images, 2 epochs at batch 25; 100 test images"
            in note
        )

    def test_the_first_seed_of_a_row_keeps_a_model(self, finished: Path) -> None:
        found = runs(finished, "tiny/final")

        kept = {name for name, run in found.items() if run.outputs and run.outputs.model_outputs}

        assert kept == {"sgd/seed-0", "touchy/seed-0"}

    def test_the_table_is_printed_alone_and_the_next_command_named(self, finished: Path) -> None:
        output, errors = (finished / "output.txt").read_text(), (finished / "errors.txt").read_text()

        assert "SGD" in output
        assert "touchy" in output
        assert "next:" not in output
        assert errors.splitlines()[-1] == "next: optstudy ui --study tiny"
        assert "best is trial" in errors
        assert "Warning" not in errors
        assert "Traceback" not in errors


class TestAgain:
    """What a study does when it is run again."""

    def test_it_computes_nothing_and_writes_nothing_anew(self, finished_copy: Path) -> None:
        before, kept = rung_files(finished_copy), best(finished_copy, "sgd")
        study = tiny.study(**tiny.WHOLE)
        first = study.compare()
        metrics = {name: run.data.metrics for name, run in runs(finished_copy, "tiny/final").items()}

        events = list(study.run())

        assert texts(events, problem=True) == []
        assert "the workspace was moved from" not in texts(events)  # compare() mended it already
        assert rung_files(finished_copy) == before
        assert best(finished_copy, "sgd") == kept
        assert study.compare() == first
        assert {name: run.data.metrics for name, run in runs(finished_copy, "tiny/final").items()} == metrics

    def test_a_new_optimizer_joins_and_the_others_are_not_trained_again(self, finished_copy: Path) -> None:
        before = rung_files(finished_copy)
        table = tiny.study(**tiny.WHOLE).compare()

        events = list(tiny.study(**{**tiny.WHOLE, "optimizers": ("adam",)}).run())

        after = rung_files(finished_copy)
        assert {path: after[path] for path in before} == before
        assert len(after) > len(before)
        assert {event.optimizer for event in events if isinstance(event, SearchResult)} == {
            "sgd",
            "touchy",
            "adam",
        }
        joined = tiny.known_study().compare()
        assert [row for row in joined.rows if row.optimizer != "adam"] == list(table.rows)
        assert [row.seeds for row in joined.rows if row.optimizer == "adam"] == [2]

    def test_only_what_is_asked_for_is_done(self, finished_copy: Path) -> None:
        before = rung_files(finished_copy)

        events = list(tiny.known_study().run("training", optimizers=["sgd"], configs=["paper"], seeds=2))

        ended = [event.run for event in events if isinstance(event, RunEnded)]
        assert sorted(ended) == ["sgd/paper/seed-0", "sgd/paper/seed-1"]
        assert not any(isinstance(event, TrialEnded) for event in events)
        assert len(rung_files(finished_copy)) == len(before) + 4

    def test_a_seed_more_trains_one_run_more(self, finished_copy: Path) -> None:
        table = tiny.known_study().train(seeds=3, optimizers=["sgd"])

        assert {(row.optimizer, row.seeds) for row in table.rows} == {("sgd", 3), ("touchy", 2)}

    def test_another_best_configuration_supersedes_the_runs_of_the_one_before(self, workspace: Path) -> None:
        list(tiny.study(trials=2, seeds=1).run())
        before = best(workspace, "sgd")
        old = runs(workspace, "tiny/final")["sgd/seed-0"].info.run_id

        events = list(tiny.study(trials=4, seeds=1).run())

        assert before["trial"] < 2 <= best(workspace, "sgd")["trial"]
        told = texts(events)
        assert any(
            text.startswith(f"sgd: trial {best(workspace, 'sgd')['trial']} is best now;") for text in told
        )
        assert "sgd: another configuration is best now; 1 older runs are left out of tables" in told
        table = tiny.known_study().compare()
        assert [row.seeds for row in table.rows] == [1]
        assert table.excluded == {"superseded": 1}
        client = MlflowClient(embedded.uri(workspace))
        assert client.get_run(old).data.tags["optstudy.superseded"] == "true"

    def test_a_changed_setting_is_refused_before_anything_is_done(self, finished_copy: Path) -> None:
        with pytest.raises(UsageError, match="was begun with batch_size 25, not 50; .* --study tiny-2$"):
            Study("tiny", batch_size=50)
        with pytest.raises(UsageError, match="was begun with tune_epochs 3, not 4; "):
            list(tiny.known_study().run("tuning", tune_epochs=4))

    def test_what_was_finished_before_is_marked_so(self, finished_copy: Path) -> None:
        again = list(tiny.study(**tiny.WHOLE).run())
        more = [e for e in tiny.study(**tiny.WHOLE).run("tuning", trials=8) if isinstance(e, TrialEnded)]

        work = [event for event in again if isinstance(event, TrialEnded | WorkDone)]
        assert len(work) > 12
        assert all(event.before for event in work)
        assert not any("failed" in text for text in texts(again))
        assert {(e.trial.number, e.before) for e in more} == {(number, number < 6) for number in range(8)}

    def test_fewer_seeds_than_there_are_is_said(self, finished_copy: Path) -> None:
        events = tiny.known_study().run("training", seeds=1)

        assert "study 'tiny' has 2 seeds a configuration already; it keeps to them" in texts(events)

    def test_artifacts_that_are_gone_are_written_again(self, finished_copy: Path) -> None:
        """From the rungs, and under the same runs."""
        before = {kind: runs(finished_copy, f"tiny/{kind}") for kind in ("tuning", "final")}
        rungs, table = rung_files(finished_copy), tiny.known_study().compare()
        kept = json.loads(artifact(finished_copy, before["final"]["sgd/seed-1"], "epochs.json"))
        shutil.rmtree(finished_copy / "mlruns" / "artifacts")

        told = texts(tiny.known_study().run())
        again = texts(tiny.known_study().run())

        said = "mlruns/artifacts lacks the files of 6 finished runs; those that this command is about are written again"
        assert said in told
        assert said not in again
        assert rung_files(finished_copy) == rungs
        assert tiny.known_study().compare() == table
        after = {kind: runs(finished_copy, f"tiny/{kind}") for kind in ("tuning", "final")}
        client = MlflowClient(embedded.uri(finished_copy))
        for kind, found in after.items():
            assert {name: run.info.run_id for name, run in found.items()} == {
                name: run.info.run_id for name, run in before[kind].items()
            }
            assert {name: run.info.status for name, run in found.items()} == {
                name: run.info.status for name, run in before[kind].items()
            }
        for run in after["final"].values():
            assert {found.path for found in client.list_artifacts(run.info.run_id)} == ROOT | CURVATURE
        assert json.loads(artifact(finished_copy, after["final"]["sgd/seed-1"], "epochs.json")) == kept
        assert artifact(finished_copy, after["tuning"]["sgd"], "search.json")
        experiment = after["final"]["sgd/seed-0"].info.experiment_id
        assert len(client.search_logged_models([experiment])) == 2  # one for each optimizer, as before

    def test_another_place_for_the_runs_is_said_with_the_one_before(self, finished_copy: Path) -> None:
        elsewhere = f"sqlite:///{finished_copy}/other.db"
        settings: dict[str, Any] = {"configs": ["default"], "seeds": 2, "optimizers": ["sgd"]}

        first = texts(tiny.HereStudy("tiny", tracking_uri=elsewhere).run("training", **settings))
        same = texts(tiny.HereStudy("tiny", tracking_uri=elsewhere).run("training", **settings))
        back = texts(tiny.HereStudy("tiny").run("training", **settings))

        [said] = first
        assert said == (
            f"study 'tiny' was logged to the workspace so far, and is logged to {elsewhere} now;"
            " give no --tracking-uri to keep it in one place"
        )
        assert same == []
        [said] = back
        assert said == (
            f"study 'tiny' was logged to {elsewhere} so far, and is logged to the workspace now;"
            f" give --tracking-uri {elsewhere} to keep it in one place"
        )

    def test_stopping_in_the_middle_closes_what_is_open_and_the_next_start_goes_on(
        self, workspace: Path
    ) -> None:
        events = tiny.study(trials=2, seeds=1).run()
        next(event for event in events if isinstance(event, TrialEnded))
        events.close()  # type: ignore[attr-defined]  # a generator, as Ctrl-C ends it
        interrupted = runs(workspace, "tiny/tuning")

        list(tiny.study(trials=2, seeds=1).run())

        assert interrupted["sgd"].info.status == "KILLED"
        assert {run.info.status for run in runs(workspace, "tiny/tuning").values()} == {"FINISHED"}
        assert runs(workspace, "tiny/tuning")["sgd"].info.run_id == interrupted["sgd"].info.run_id
        assert [row.seeds for row in tiny.known_study().compare().rows] == [1]


class TestProblems:
    """What goes wrong is told, costs no more than it must, and leaves the rest."""

    def test_a_search_in_which_every_trial_fails_ends_with_a_problem(self, workspace: Path) -> None:
        weary = tiny.TOUCHY_SPACE.replace('choices = ["calm", "foul"]', 'choices = ["weary"]')
        weary = weary.replace('temper = "calm"', 'temper = "weary"').replace(
            'temper = "foul"', 'temper = "weary"'
        )
        (workspace / "tuning" / "spaces" / "weary.toml").write_text(weary)

        events = list(tiny.study(optimizers=("weary", "sgd"), trials=2, rung_epochs=3, seeds=1).run())

        [problem] = texts(events, problem=True)
        assert problem.startswith("no trial of weary completed (failed); look at the ranges in ")
        assert problem.endswith(" or, if other optimizers do no better, at model, loss and data")
        assert runs(workspace, "tiny/tuning")["weary"].info.status == "FAILED"
        assert [row.optimizer for row in tiny.known_study().compare().rows] == ["sgd"]
        assert not (workspace / "tuning" / "best" / "tiny" / "weary.json").exists()

    def test_a_final_run_that_fails_is_tried_again_by_the_next_command(self, workspace: Path) -> None:
        settings: dict[str, Any] = {"optimizers": ("touchy",), "configs": ("paper",), "seeds": 1}

        for _ in range(2):
            events = list(tiny.study(**settings).run("training"))
            assert texts(events, problem=True) == [
                "tiny/touchy/paper/seed-0 failed: RuntimeError: no step today"
            ]
        with pytest.raises(OptstudyError, match="seed-0 failed: RuntimeError: no step today$"):
            tiny.study(**settings).train(configs=["paper"])

    def test_a_model_that_cannot_be_exported_costs_no_run(self, workspace: Path) -> None:
        (workspace / "net.py").write_text(
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.layer = nn.Linear(64, 3)\n"
            "    def forward(self, x):\n"
            "        x = x.flatten(1)\n"
            "        return self.layer(x) if float(x.sum()) > 0 else self.layer(-x)\n"
            "make = Net\n"
        )

        events = list(tiny.study(configs=("default",), seeds=1).run("training"))

        assert texts(events, problem=True) == []
        assert any("sgd/default/seed-0" in text and "weights.pt" in text for text in texts(events))
        assert runs(workspace, "tiny/final")["sgd/default/seed-0"].info.status == "FINISHED"

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"model": "net.py:wrong"}, r"^net\.py has no 'wrong'"),
            ({"model": "net.py:four"}, r"^model 'net\.py:four' returns \(25, 4\) for 25 images of 3 classes"),
            ({"dataset": "images.py:part"}, r"images\.py:part"),
            ({"validation": 400}, "^the training set has 300 images, too few for 400"),
            ({"tune_size": 250}, "^the training set has 300 images, too few for 60 .* and 250 to train on"),
            ({"batch_size": 241}, "^batch_size is 241, but a trial trains on 240 images; give 240 or less"),
            (
                {"batch_size": 301, "validation": 1, "tune_size": 0},
                "^batch_size is 301, but a trial trains on 299 images; give 299 or less",
            ),
            ({"device": "cuda:63"}, "^device 'cuda:63' is not available; torch finds cpu"),
            ({"optimizers": ("sdg",)}, "did you mean 'sgd'"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused_before_anything_is_spent(
        self, changes: dict[str, Any], said: str, workspace: Path
    ) -> None:
        with (workspace / "net.py").open("a") as file:
            file.write("\ndef four():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n")

        with pytest.raises(UsageError, match=said) as raised:
            list(tiny.study(**changes).run())

        assert "\n" not in str(raised.value)
        assert read_recorded(tiny.study().files) is None
        assert rung_files(workspace) == {}

    def test_an_optimizer_that_raises_is_named_with_its_space_file_and_the_users_line(
        self, workspace: Path
    ) -> None:
        foul = tiny.TOUCHY_SPACE.replace('temper = "calm"', 'temper = "foul"')
        (workspace / "tuning" / "spaces" / "touchy.toml").write_text(foul)

        with pytest.raises(OptstudyError) as raised:
            list(tiny.study(optimizers=("sgd", "touchy")).run())

        line = 1 + tiny.TOUCHY.splitlines().index('            raise RuntimeError("no step today")')
        assert str(raised.value) == (
            "the first steps of touchy (touchy.py:Touchy, tuning/spaces/touchy.toml) fail at"
            f" touchy.py:{line}: RuntimeError: no step today"
        )

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("lr", "rate", "touchy.py:Touchy refuses rate=0.1, temper='calm': "),
            ('"touchy.py:Touchy"', '"touchy.py:Tuchy"', "touchy.py has no 'Tuchy'; did you mean 'Touchy'?"),
            ('"touchy.py:Touchy"', '"tuchy.py:Touchy"', "tuchy.py: no such file in "),
        ],
    )
    def test_an_optimizer_that_cannot_be_made_is_named_with_its_space_file(
        self, old: str, new: str, said: str, workspace: Path
    ) -> None:
        (workspace / "tuning" / "spaces" / "touchy.toml").write_text(tiny.TOUCHY_SPACE.replace(old, new))

        with pytest.raises(UsageError) as raised:
            list(tiny.study(optimizers=("touchy",)).run())

        assert str(raised.value).startswith(f"tuning/spaces/touchy.toml: {said}")

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"model": "net.py:maek"}, r"^net\.py has no 'maek'; did you mean 'make'"),
            ({"model": "lenet"}, "^model 'lenet' is not known"),
            ({"loss": "cross_entropi"}, "^loss 'cross_entropi' is not known"),
            ({"dataset": "minst"}, "^'minst' is no data set; did you mean 'mnist'"),
            ({"dataset": "images.py:laod"}, r"^images\.py has no 'laod'"),
            ({"device": "cuda:63"}, "^device 'cuda:63' is not available"),
        ],
    )
    def test_what_is_not_there_is_said_before_what_differs(
        self, changes: dict[str, Any], said: str, finished_copy: Path
    ) -> None:
        with pytest.raises(UsageError, match=said):
            Study("tiny", **changes)

    def test_training_needs_no_room_for_validation(self, workspace: Path) -> None:
        settings: dict[str, Any] = {
            "configs": ("default",),
            "seeds": 1,
            "tune_size": 10_000,
            "validation": 10_000,
        }

        events = list(tiny.study(**settings).run("training"))

        assert [event.run for event in events if isinstance(event, RunEnded)] == ["sgd/default/seed-0"]

    def test_training_what_was_never_tuned_names_the_command_to_run(self, workspace: Path) -> None:
        with pytest.raises(UsageError) as raised:
            list(tiny.study().run("training"))

        assert str(raised.value) == (
            "study 'tiny' has no best configuration of sgd yet; run: optstudy tune --study tiny --opt sgd"
        )

    @pytest.mark.parametrize("content", ["{", '{"config": {"lr": "high"}}', "[]", '{"config": {"lr": 9}}'])
    def test_a_damaged_best_file_is_one_line_with_its_name(self, content: str, finished_copy: Path) -> None:
        path = finished_copy / "tuning" / "best" / "tiny" / "sgd.json"
        path.write_text(content)

        with pytest.raises(OptstudyError) as raised:
            list(tiny.known_study().run("training"))

        assert str(raised.value).startswith(str(path.relative_to(finished_copy)))
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("content", ["{", "[]", '{"trial": 3}', '{"config": 5}'])
    def test_a_damaged_best_file_is_found_before_a_search_begins(
        self, content: str, finished_copy: Path
    ) -> None:
        path = finished_copy / "tuning" / "best" / "tiny" / "sgd.json"
        path.write_text(content)

        with pytest.raises(OptstudyError) as raised:
            list(tiny.known_study().run("tuning", trials=8))

        said = str(raised.value)
        assert said.startswith(str(path.relative_to(finished_copy)))
        assert said.endswith("; restore the file, or remove it and tune again")
        assert "\n" not in said
        assert path.read_text() == content

    def test_a_study_that_another_process_runs_is_refused(self, workspace: Path) -> None:
        first = tiny.study().run()
        next(first)

        with pytest.raises(UsageError, match="^study 'tiny' is being run by process "):
            next(iter(tiny.study().run()))
        first.close()  # type: ignore[attr-defined]


class TestData:
    """The data set is the same in every process, and whenever the study goes on."""

    def test_other_data_than_before_are_refused(self, workspace: Path) -> None:
        with (workspace / "images.py").open("a") as file:
            file.write(
                "\n\nfrom pathlib import Path\n\ndef drawn():\n    seed = int(Path('seed.txt').read_text())\n"
                "    return Dataset(*part(300, seed), *part(100, 1), ('top', 'middle', 'low'))\n"
            )
        (workspace / "seed.txt").write_text("0")
        settings: dict[str, Any] = {"dataset": "images.py:drawn", "configs": ("default",), "seeds": 1}
        list(tiny.study(**settings).run("training"))
        (workspace / "seed.txt").write_text("1")
        datasets._from_user.cache_clear()  # as in another process

        with pytest.raises(UsageError) as raised:
            list(tiny.study(**settings).run("training", seeds=2))

        assert str(raised.value) == (
            "images.py:drawn returned other data than before; it must return the same each time, in every"
            " process, for example with fixed seeds (data that were changed on purpose need another --study)"
        )

    @pytest.mark.slow
    def test_data_that_differ_between_processes_are_refused_and_nothing_is_kept(
        self, workspace: Path
    ) -> None:
        with (workspace / "images.py").open("a") as file:
            file.write(
                "\n\ndef drawn():\n    import os\n"
                "    return Dataset(*part(300, os.getpid()), *part(100, 1), ('top', 'middle', 'low'))\n"
            )

        with pytest.raises(UsageError, match="^images.py:drawn returned other data than before; "):
            list(tiny.study(jobs=2, dataset="images.py:drawn", seeds=8, configs=("default",)).run())

        kept = (workspace / "tuning" / "studies" / "tiny" / "rungs").rglob("*.json")
        assert not any(json.loads(path.read_text())["outcome"] == "failed" for path in kept)

    def test_a_rung_on_other_data_is_not_trained(self, user_files: Path) -> None:
        sgd = load_space("sgd", user_files)
        specification = Specification.from_keys(tiny.SETTINGS)
        plan = final_plan(specification, sgd, sgd.default, 0)
        checksum = load_description(plan.dataset).checksum

        assert run_rung_on("of other data", plan, None, 0, 1) is None
        assert run_rung_on(checksum, plan, None, 0, 1) is not None


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
    def test_a_program_without_a_guard_is_told_of_it(self, workspace: Path) -> None:
        done = self.run(workspace, "main()\n")

        assert done.returncode == 1
        said = done.stderr.splitlines()[-1]
        assert said.endswith("by the study's workers; put that under: if __name__ == '__main__':")
        assert rung_files(workspace, "mine") == {}

    def test_a_lambda_is_refused_with_what_would_do(self, user_files: Path) -> None:
        with pytest.raises(UsageError, match=r"^.*<lambda> cannot be found by another process; define it at"):
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
