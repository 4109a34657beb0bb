"""Metrics and tags are defined in one table, by which they are written, read, archived and compared."""

import ast
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import evidence
import pytest

import optstudy
from optstudy.posthoc.reproduce.recorded import final_series
from optstudy.records import metrics
from optstudy.records.forms import from_form, to_form
from optstudy.records.metrics import (
    EPOCH,
    FINAL,
    STEP,
    Metric,
    RunResults,
    Tag,
    final_metrics,
    read_final_metrics,
)
from optstudy.records.run import CostToTarget, EpochRecord, FinalRun

FILES = [file for file in Path(optstudy.__file__).parent.rglob("*.py") if file.name != "metrics.py"]
TAGS = {name for key, name in vars(Tag).items() if not key.startswith("_")}


def epoch(number: int, accuracy: float) -> EpochRecord:
    return EpochRecord(number, 0.1, accuracy, 0.1, accuracy, 1.0, 2.0, 0.0, gradients=10, hessian_products=5)


def results(*accuracies: float, target: float | None = None) -> RunResults:
    return RunResults(
        [epoch(number, accuracy) for number, accuracy in enumerate(accuracies, 1)], target=target
    )


def test_no_metric_of_the_end_and_no_tag_is_spelled_elsewhere() -> None:
    texts = [
        (file.name, node.value)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]

    assert [one for one in texts if one[1].startswith("final/") or one[1] in TAGS] == []
    assert [one for one in texts if re.search(r"final/[a-z]", one[1]) and " " not in one[1]] == []


def test_names_are_unique_and_fields_exist() -> None:
    names = [one.name for one in (*FINAL, *EPOCH, *(one for each in STEP.values() for one in each))]

    assert len(names) == len(set(names))
    assert {one.field for one in EPOCH} <= {field.name for field in fields(EpochRecord)}
    assert {one.field.partition(".")[0] for one in FINAL} <= {field.name for field in fields(FinalRun)}


def test_the_names_of_the_first_version_hold() -> None:
    assert {one.name for one in FINAL} == {
        f"final/{name}"
        for name in (
            "train_accuracy_pct", "test_accuracy_pct", "steps", "gradient_work", "separated", "lambda_1", "lambda_2",
            "ratio", "ratio_low", "ratio_high", "trace", "loss_rise", "seconds", "step_seconds", "epochs_to_target",
            "seconds_to_target", "work_to_target",
        )
    }  # fmt: skip


def test_the_cost_of_the_target_is_that_of_the_first_epoch_that_reached_it() -> None:
    values = final_metrics(results(0.9, 0.97, 0.96, target=0.97))

    assert values["final/epochs_to_target"] == 2.0
    assert values["final/seconds_to_target"] == 4.0
    assert values["final/work_to_target"] == 40.0
    assert results(0.9, 0.97, 0.96, target=0.98).cost_to_target is None
    assert {name for name in final_metrics(results(0.9, target=0.98)) if name.endswith("_to_target")} == set()


def test_metrics_are_those_that_are_finite() -> None:
    curvature = evidence.curvature_result(0.8, 1, 1e-4)

    bare = final_metrics(results(0.9, 0.97))
    complete = final_metrics(replace(results(0.9, 0.97), curvature=curvature))
    partial = final_metrics(
        replace(results(0.9), curvature=replace(curvature, ratio=curvature.ratio * math.inf))
    )

    names = {"lambda_1", "lambda_2", "ratio", "ratio_low", "ratio_high", "trace", "loss_rise"}
    assert set(complete) - set(bare) == {f"final/{name}" for name in names}
    assert (bare["final/test_accuracy_pct"], bare["final/steps"]) == (97.0, 20.0)
    assert set(complete) - set(partial) == {"final/ratio", "final/ratio_low", "final/ratio_high"}


def test_what_was_written_is_read() -> None:
    curvature = evidence.curvature_result(0.8, 1, 1e-4)
    written = final_metrics(replace(results(0.9, 0.97, target=0.97), curvature=curvature))

    values = read_final_metrics(written, "separated", "opposite")

    assert values["test_accuracy"] == 0.97
    assert values["steps"] == 20
    assert values["cost_to_target"] == CostToTarget(2.0, 4.0, 40.0)
    assert values["curvature"] == replace(curvature.final, verdict="separated", sign="opposite")
    assert "separated" not in values
    assert read_final_metrics({"final/lambda_1": 3.0}, "", "")["curvature"].verdict == "unresolved"


def test_a_new_final_metric_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    last_loss = Metric("final/test_loss", "", value=lambda results: results.epochs[-1].heldout_loss)
    monkeypatch.setattr(metrics, "FINAL", (*FINAL, last_loss))
    monkeypatch.setattr("optstudy.posthoc.reproduce.recorded.FINAL", (*FINAL, last_loss))
    [one] = evidence.runs_of(("sgd",), 1)

    written = final_metrics(results(0.9))
    run = replace(one.run, metrics=read_final_metrics(written, "")["metrics"])

    assert written["final/test_loss"] == 0.1
    assert final_series(vars(run))["final/test_loss"].values == 0.1
    assert from_form(FinalRun, to_form(run), "a file") == run
    assert "metrics" not in to_form(one.run)
