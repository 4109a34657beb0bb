"""A specification and a configuration determine each run, and nothing else does."""

from typing import Any

import cases
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optstudy.optimizers import load_space
from optstudy.records.plan import Method, Split
from optstudy.records.space import Space
from optstudy.study.plans import (
    TUNING_SEED,
    final_plan,
    is_paper_setting,
    trial_plan,
)
from optstudy.study.specification import Specification

SPECIFICATION = Specification.from_keys(
    {
        "trials": 5,
        "tune_epochs": 3,
        "validation": 100,
        "tune_size": 40,
        "train_epochs": 7,
        "sweep_every": 3,
        "seed": 2,
    }
)


@given(st.integers(1, 1000), st.integers(1, 50))
def test_trials_become_the_fewest_whole_batches_that_hold_them(trials: int, batch: int) -> None:
    whole = Specification.from_keys({"trials": trials, "batch": batch}).tuning.rounded_trials

    assert whole % batch == 0
    assert trials <= whole < trials + batch


@pytest.mark.parametrize("space", cases.spaces(), ids=lambda space: space.name)
def test_a_plan_makes_the_optimizer_as_its_space_says(space: Space) -> None:
    wanted = Method(
        optimizer=space.optimizer,
        arguments=space.arguments(space.default),
        needs=space.needs,
        seeded=space.seeded,
        hessian_products=space.hessian_products,
    )

    assert trial_plan(SPECIFICATION, space, space.default).method == wanted
    assert final_plan(SPECIFICATION, space, space.default, 0).method == wanted


def test_a_trial_never_sees_the_test_set_and_is_not_swept() -> None:
    sgd = load_space("sgd", cases.HERE)

    plan = trial_plan(SPECIFICATION, sgd, sgd.default)

    assert plan.split == Split("tuning", validation=100, size=40, seed=2)
    assert (plan.epochs, plan.sweep_epochs) == (3, ())


def test_trials_start_from_weights_that_no_final_run_starts_from() -> None:
    sgd = load_space("sgd", cases.HERE)
    final = {final_plan(SPECIFICATION, sgd, sgd.default, seed).seed for seed in range(100)}

    assert trial_plan(SPECIFICATION, sgd, sgd.default).seed == 2 + TUNING_SEED
    assert 2 + TUNING_SEED not in final


def test_a_final_run_trains_on_all_images_and_reports_on_the_test_set() -> None:
    sgd = load_space("sgd", cases.HERE)

    plan = final_plan(SPECIFICATION, sgd, sgd.default, 4)

    assert plan.split == Split("final")
    assert (plan.epochs, plan.sweep_epochs, plan.seed) == (7, (3, 6, 7), 4)


def test_a_final_run_on_a_part_of_the_images_draws_it_by_the_studys_seed() -> None:
    sgd = load_space("sgd", cases.HERE)

    drawn = Specification.from_keys(SPECIFICATION.to_keys() | {"train_size": 30})
    plan = final_plan(drawn, sgd, sgd.default, 4)

    assert plan.split == Split("final", size=30, seed=2)


def test_plans_do_not_depend_on_how_many_runs_there_are() -> None:
    sgd = load_space("sgd", cases.HERE)
    grown = {"trials": 50, "seeds": 9, "optimizers": ("sgd", "adam"), "configs": ("best", "paper")}
    more = Specification.from_keys(SPECIFICATION.to_keys() | grown)

    assert trial_plan(more, sgd, sgd.default) == trial_plan(SPECIFICATION, sgd, sgd.default)
    assert final_plan(more, sgd, sgd.default, 0) == final_plan(SPECIFICATION, sgd, sgd.default, 0)


@pytest.mark.parametrize(
    "change", [{"dataset": "cifar10"}, {"model": "net.py:make"}, {"loss": "net.py:loss"}, {"train_size": 500}]
)
def test_the_papers_numbers_stand_only_beside_the_papers_setting(change: dict[str, Any]) -> None:
    assert is_paper_setting(Specification.from_keys({}))
    assert not is_paper_setting(Specification.from_keys(change))
