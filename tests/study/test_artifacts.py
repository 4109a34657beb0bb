"""What a final run leaves behind: always the same names, and curvature only where it was measured."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest

from optstudy.records.curvature import CurvatureResult
from optstudy.records.metrics import final_metrics, spent_to_target
from optstudy.records.plan import Method, Plan, Trace
from optstudy.records.run import EpochRecord
from optstudy.study.artifacts import Ended, draw, stability_of
from optstudy.training import run_rung
from optstudy.training.curvature import measure_final_curvature

WATCHED = cases.plan(trace=Trace(samples=20, last=3))
ALWAYS = {"gradient_norm.png", "confusion.png", "epochs.json", "predictions.npz", "plan.json"}
TRACED = {"eigen_ratio.png", "eigen.npz"}
ENDED = {"landscape_1d.png", "landscape_2d.png", "spectrum.png", "analysis.npz"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[None]:
    with cases.project(tmp_path):
        yield


def ended(plan: Plan, *, analysed: bool = False) -> Ended:
    rung, state = run_rung(plan, None, 0, 2)
    assert rung.predicted is not None
    analysis = CurvatureResult.from_bytes(measure_final_curvature(plan, state)) if analysed else None
    return Ended("tiny/sgd/seed-0", "sgd", plan, rung.epochs, rung.observations, rung.predicted, analysis)


def test_a_run_without_curvature_leaves_none() -> None:
    assert set(draw(ended(cases.plan())).files) == ALWAYS


def test_a_run_with_curvature_leaves_all_of_it() -> None:
    assert set(draw(ended(WATCHED, analysed=True)).files) == ALWAYS | TRACED | ENDED


def test_a_run_whose_last_steps_were_not_watched_has_its_end_alone() -> None:
    plan = replace(WATCHED, trace=Trace(samples=20, last=0))

    assert set(draw(ended(plan, analysed=True)).files) == ALWAYS | ENDED


def test_a_diverged_run_is_drawn_as_far_as_it_was_seen() -> None:
    plan = cases.plan(method=cases.sgd(1e38), trace=Trace(samples=20, last=None))
    found = ended(plan)

    files = draw(found).files

    assert found.epochs[-1].train_loss is None
    assert set(files) == ALWAYS | TRACED
    assert all(files.values())


def test_a_figure_that_cannot_be_drawn_costs_no_other_file() -> None:
    without = replace(ended(WATCHED, analysed=True), predicted=())

    found = draw(without)

    assert set(found.files) == (ALWAYS | TRACED | ENDED) - {"confusion.png"}
    assert set(found.failed) == {"confusion.png"}
    assert found.failed["confusion.png"].startswith("ValueError: ")
    assert "\n" not in found.failed["confusion.png"]


@pytest.mark.parametrize(
    ("optimizer", "arguments", "threshold", "preconditioned"),
    [
        ("torch.optim.SGD", {"lr": 0.1}, 20, False),
        ("torch.optim.SGD", {"lr": 0.1, "momentum": 0.9}, 38, False),
        ("torch.optim.SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, 3.8 / 0.28, False),
        ("torch.optim.Adam", {"lr": 0.001}, 38_000, True),
        ("torch.optim.Adagrad", {"lr": 0.01}, 200, True),
    ],
)
def test_the_stability_line_is_the_one_in_the_literature(
    optimizer: str, arguments: dict[str, Any], threshold: float, preconditioned: bool
) -> None:
    found = stability_of(cases.plan(method=Method(optimizer, arguments)))

    assert found is not None
    assert found.threshold == pytest.approx(threshold)
    assert found.preconditioned is preconditioned


def test_an_optimizer_whose_stability_is_not_known_has_no_line() -> None:
    assert stability_of(cases.plan(method=Method("torch.optim.RAdam", {"lr": 0.1}))) is None


def epoch(number: int, accuracy: float) -> EpochRecord:
    return EpochRecord(number, 0.1, accuracy, 0.1, accuracy, 1.0, 2.0, 0.0, gradients=10, hessian_products=5)


def test_what_was_spent_until_the_target_is_that_of_the_first_epoch_that_reached_it() -> None:
    records = [epoch(1, 0.9), epoch(2, 0.97), epoch(3, 0.96)]

    assert spent_to_target(records, 0.97) == {
        "final/epochs_to_target": 2.0,
        "final/seconds_to_target": 4.0,
        "final/work_to_target": 40.0,
    }
    assert spent_to_target(records, 0.98) == {}


def test_metrics_are_those_that_are_finite() -> None:
    analysis = ended(WATCHED, analysed=True).curvature
    assert analysis is not None

    records = [epoch(1, 0.9), epoch(2, 0.97)]

    bare = final_metrics(records, [], None)
    whole = final_metrics(records, [], analysis)
    partly = final_metrics(records, [], replace(analysis, ratio=np.array([math.inf, 1.0, math.inf])))

    names = {"lambda_1", "lambda_2", "ratio", "ratio_low", "ratio_high", "trace", "loss_rise"}
    assert set(whole) - set(bare) == {f"final/{name}" for name in names}
    assert (bare["final/test_accuracy_pct"], bare["final/steps"]) == (97.0, 20.0)
    assert set(whole) - set(partly) == {"final/ratio", "final/ratio_high"}
