"""What a final run leaves behind: always the same names, and curvature only where it was measured."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import pytest

from optstudy.records.curvature import CurvatureResult
from optstudy.records.look import derive_look
from optstudy.records.plan import Method, Plan, Trace
from optstudy.records.run import Rung
from optstudy.study.artifacts import draw_run, stability_threshold
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


def trained(plan: Plan) -> tuple[Rung, CurvatureResult | None]:
    """Train a run, and measure where it ended if it completed."""
    rung, state = run_rung(plan, None, 0, 2)
    measured = plan.trace is not None and rung.outcome == "completed"
    return rung, CurvatureResult.from_bytes(measure_final_curvature(plan, state)) if measured else None


def drawn(
    plan: Plan, rung: Rung, curvature: CurvatureResult | None
) -> tuple[dict[str, bytes], dict[str, str]]:
    return draw_run("tiny/sgd/seed-0", derive_look("sgd"), plan, [rung], curvature)


def test_a_run_without_curvature_leaves_none() -> None:
    files, _ = drawn(cases.plan(), *trained(cases.plan()))

    assert set(files) == ALWAYS


def test_a_run_with_curvature_leaves_all_of_it() -> None:
    files, _ = drawn(WATCHED, *trained(WATCHED))

    assert set(files) == ALWAYS | TRACED | ENDED


def test_a_run_whose_last_steps_were_not_watched_has_its_end_alone() -> None:
    plan = replace(WATCHED, trace=Trace(samples=20, last=0))

    files, _ = drawn(plan, *trained(plan))

    assert set(files) == ALWAYS | ENDED


def test_a_diverged_run_is_drawn_as_far_as_it_was_seen() -> None:
    plan = cases.plan(method=cases.sgd(1e38), trace=Trace(samples=20, last=None))
    rung, curvature = trained(plan)

    files, _ = drawn(plan, rung, curvature)

    assert rung.epochs[-1].train_loss is None
    assert set(files) == ALWAYS | TRACED
    assert all(files.values())


def test_a_figure_that_cannot_be_drawn_costs_no_other_file() -> None:
    rung, curvature = trained(WATCHED)

    files, failed = drawn(WATCHED, replace(rung, predicted=()), curvature)

    assert set(files) == (ALWAYS | TRACED | ENDED) - {"confusion.png"}
    assert set(failed) == {"confusion.png"}
    assert failed["confusion.png"].startswith("ValueError: ")
    assert "\n" not in failed["confusion.png"]


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
    found = stability_threshold(cases.plan(method=Method(optimizer, arguments)))

    assert found is not None
    assert found.threshold == pytest.approx(threshold)
    assert found.preconditioned is preconditioned


def test_an_optimizer_whose_stability_is_not_known_has_no_line() -> None:
    assert stability_threshold(cases.plan(method=Method("torch.optim.RAdam", {"lr": 0.1}))) is None
