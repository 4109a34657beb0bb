"""Curvature of another format is measured again where a study continues, and nothing is trained for it."""

from pathlib import Path
from typing import Any

import pytest
import studies
import tiny
from mlflow import MlflowClient
from mlflow.entities import Run

from optstudy.records.curvature import CURVATURE_FORMAT
from optstudy.tracking import embedded

ONE_RUN: dict[str, Any] = {"configs": ("default",), "seeds": 1, "samples": 20, "eigen_last": 4}


def train(**changes: Any) -> list[str]:
    """Train one run; return what was said."""
    return studies.texts(tiny.study(**ONE_RUN).run("training", **changes))


def train_in_another_format(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("optstudy.training.curvature.CURVATURE_FORMAT", 0)
        train()


def final(workspace: Path) -> Run:
    """Return the run that counts."""
    store = MlflowClient(embedded.uri(workspace))
    experiment = store.get_experiment_by_name("tiny/final")
    assert experiment is not None
    found = store.search_runs([experiment.experiment_id])
    [run] = [run for run in found if "optstudy.superseded" not in run.data.tags]
    return run


def test_curvature_of_another_format_is_measured_again_under_the_same_key(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_in_another_format(monkeypatch)
    rungs, before = studies.rung_times(workspace), final(workspace)

    told = train()

    assert studies.rung_times(workspace) == rungs
    after, store = final(workspace), MlflowClient(embedded.uri(workspace))
    tags = [run.data.tags for run in (store.get_run(before.info.run_id), after)]
    assert [tag["optstudy.curvature_format"] for tag in tags] == ["0", str(CURVATURE_FORMAT)]
    assert tags[0]["optstudy.key"] == tags[1]["optstudy.key"]
    assert (tags[0]["optstudy.superseded"], "optstudy.superseded" in tags[1]) == ("true", False)
    assert after.data.metrics["final/test_accuracy_pct"] == before.data.metrics["final/test_accuracy_pct"]
    [notice] = [text for text in told if "another version" in text]
    assert notice.startswith("the curvature of 1 finished run was measured by another version of optstudy; ")
    table = tiny.reopened_study().compare()
    assert (table.rows[0].seeds, table.excluded) == (1, {"superseded": 1})

    assert not any("another version" in text for text in train())
    assert final(workspace).info.run_id == after.info.run_id


def test_without_the_weights_it_stays_as_it_is_and_nothing_is_trained(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_in_another_format(monkeypatch)
    for state in workspace.rglob("*.pt"):
        if "rungs" in state.parts:
            state.unlink()
    rungs, before = studies.rung_times(workspace), final(workspace)

    told = train()

    assert any("another version" in text for text in told)
    assert studies.rung_times(workspace) == rungs
    assert final(workspace).info.run_id == before.info.run_id


def test_a_run_of_files_that_have_changed_is_not_measured_with_those_of_today(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_in_another_format(monkeypatch)
    rungs, before = studies.rung_times(workspace), final(workspace)
    (workspace / "net.py").write_text(tiny.NET + "\n# the same numbers\n")

    train(accept_sources=["net.py"])

    assert studies.rung_times(workspace) == rungs
    assert final(workspace).info.run_id == before.info.run_id
