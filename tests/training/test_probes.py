"""What is watched while a run trains, and that watching changes nothing."""

from typing import Any

import cases
import pytest
import torch

from optstudy.curvature import EigenTracker
from optstudy.records.curvature import CURVATURE_FORMAT
from optstudy.records.eigen_trace import format_change
from optstudy.records.plan import Plan, Trace
from optstudy.training import (
    ImageBatches,
    RunState,
    as_batches,
    build_probes,
    evaluation,
    probes,
    run_rung,
    sample_images,
)
from optstudy.workloads.splits import load_split

STEPS = 8  # of two epochs of 200 images at batch 64


def steps(**trace: Any) -> list[int]:
    first, _ = build_probes(cases.plan(trace=Trace(**trace)))
    assert isinstance(first, EigenTracker)
    return list(first.steps)


@pytest.mark.parametrize(
    ("trace", "watched"),
    [
        ({"samples": 20, "last": 3}, [5, 6, 7]),
        ({"samples": 20, "last": None}, list(range(STEPS))),
        ({"samples": 20, "last": 1000}, list(range(STEPS))),
        ({"samples": 20, "last": None, "every": 5}, [0, 5]),
        ({"samples": 20, "last": 5, "every": 2}, [3, 5, 7]),
    ],
)
def test_the_last_steps_of_the_whole_run_are_tracked(trace: dict[str, Any], watched: list[int]) -> None:
    assert steps(**trace) == watched


@pytest.mark.parametrize("trace", [None, Trace(samples=20, last=0)])
def test_a_plan_without_steps_to_track_has_no_probes(trace: Trace | None) -> None:
    assert build_probes(cases.plan(trace=trace)) == []


@pytest.mark.parametrize("name", ["sgd", "adam", "adahessian"])
def test_a_run_has_the_same_bits_with_and_without_probes(name: str) -> None:
    method = cases.method(next(space for space in cases.spaces() if space.name == name))
    plan = cases.plan(method=method)
    watched = cases.plan(method=method, trace=Trace(samples=20, last=None, every=2))

    _, alone = run_rung(plan, None, 0, 2)
    rung, beside = run_rung(watched, None, 0, 2)

    one, other = RunState.from_bytes(alone), RunState.from_bytes(beside)
    assert cases.bits((one.model, one.optimizer, one.generators)) == cases.bits(
        (other.model, other.optimizer, other.generators)
    )
    assert {seen.probe for seen in rung.observations} >= {"eigen"}


def test_a_run_in_two_rungs_has_the_observations_of_one() -> None:
    plan = cases.plan(trace=Trace(samples=20, last=None))

    whole, _ = run_rung(plan, None, 0, 2)
    first, state = run_rung(plan, None, 0, 1)
    second, _ = run_rung(plan, state, 1, 2)

    assert cases.bits([*first.observations, *second.observations]) == cases.bits(list(whole.observations))


def test_a_smaller_sample_is_the_beginning_of_a_larger_one() -> None:
    train, _ = load_split("data.py:load", cases.plan().split)

    few, many = (sample_images(train, count, 3, "cpu") for count in (10, 50))

    assert isinstance(few, tuple)
    assert isinstance(many, tuple)
    assert torch.equal(few[0], many[0][:10])
    assert torch.equal(few[1], many[1][:10])


@pytest.mark.parametrize("count", [None, cases.TRAIN, 10_000])
def test_a_sample_of_all_images_has_their_order(count: int | None) -> None:
    train, _ = load_split("data.py:load", cases.plan().split)

    found = sample_images(train, count, 3, "cpu")

    assert isinstance(found, tuple)
    assert torch.equal(found[1], train[1])


def test_more_images_than_a_batch_can_be_iterated_repeatedly(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (evaluation, probes):
        monkeypatch.setattr(module, "EVALUATION_BATCH", 60)
    train, _ = load_split("data.py:load", cases.plan().split)

    found = as_batches(*train, "cpu")

    assert isinstance(found, ImageBatches)
    assert [len(y) for _, y in found] == [60, 60, 60, 20]
    assert torch.equal(torch.cat([y for _, y in found]), train[1])


@pytest.mark.parametrize("last", [4, None])
def test_a_step_whose_hessian_overflows_does_not_end_the_run(
    last: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(*_: object, **__: object) -> None:
        raise FloatingPointError("a product is not finite")

    plan: Plan = cases.plan(trace=Trace(samples=20, last=last))
    monkeypatch.setattr(EigenTracker, "_search", overflowing)

    rung, _ = run_rung(plan, None, 0, 2)

    assert rung.outcome == "completed"
    assert [dict(seen.values) for seen in rung.observations] == [
        {"loss": None, "format": CURVATURE_FORMAT}
    ] * (last or STEPS)


def test_a_tracker_begins_anew_after_a_state_of_another_format(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = cases.plan(trace=Trace(samples=20, last=None))
    with monkeypatch.context() as patch:
        patch.setattr("optstudy.training.probes.CURVATURE_FORMAT", 0)
        first, earlier = run_rung(plan, None, 0, 1)
    _, state = run_rung(plan, None, 0, 1)

    anew, _ = run_rung(plan, earlier, 1, 2)
    goes_on, _ = run_rung(plan, state, 1, 2)

    step = first.observations[-1].step + 1
    assert [rung.observations[0].values["verified"] for rung in (anew, goes_on)] == [1.0, 0.0]
    assert format_change([*first.observations, *anew.observations]) == step
    assert format_change(anew.observations) is None
