"""A run that diverges has an outcome and plain numbers; nothing crashes, and no NaN reaches a table."""

import json
from dataclasses import asdict, replace

import cases
import pytest

from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord
from optstudy.training import RunState, advance, run_rung, start

LONG = cases.plan(epochs=3, sweep_epochs=(3,))
LOST = [
    pytest.param(replace(LONG, method=cases.sgd(1e6), model="net.py:deep"), id="steps too long"),
    pytest.param(replace(LONG, model="net.py:Lost"), id="a model that gives NaN"),
]
DIVERGING = pytest.mark.parametrize("plan", LOST)


@DIVERGING
def test_a_diverged_run_stops_with_outcome_diverged(plan: Plan) -> None:
    rung, state = run_rung(plan, None, 0, 3)

    assert rung.outcome == "diverged"
    assert len(rung.epochs) < 3
    assert RunState.from_bytes(state).diverged
    assert rung.predicted is not None
    assert len(rung.predicted) == cases.TEST


@DIVERGING
def test_a_diverged_run_cannot_be_continued(plan: Plan) -> None:
    state, _ = advance(start(plan), plan, 3)

    same, history = advance(state, plan, 3)

    assert history.epochs == ()
    assert cases.bits(same.model) == cases.bits(state.model)


@DIVERGING
def test_numbers_that_are_not_finite_are_none_and_accuracies_stay_fractions(plan: Plan) -> None:
    last = run_rung(plan, None, 0, 3)[0].epochs[-1]

    assert None in (last.train_loss, last.heldout_loss)
    assert last.train_accuracy is not None
    assert 0 <= last.train_accuracy <= 1
    assert 0 <= last.heldout_accuracy <= 1
    assert EpochRecord(**json.loads(json.dumps(asdict(last), allow_nan=False))) == last


@DIVERGING
def test_a_final_run_that_diverges_ends_with_a_sweep(plan: Plan) -> None:
    last = run_rung(plan, None, 0, 3)[0].epochs[-1]

    assert last.epoch < 3
    assert last.exact_accuracy is not None
    assert 0 <= last.exact_accuracy <= 1


def test_a_trial_that_diverges_is_not_swept() -> None:
    plan = cases.plan(model="net.py:Lost", sweep_epochs=())

    last = run_rung(plan, None, 0, 2)[0].epochs[-1]

    assert (last.exact_loss, last.exact_accuracy, last.full_gradient_norm) == (None, None, None)
