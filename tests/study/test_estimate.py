"""What curvature is expected to cost, before anything of it is measured."""

from dataclasses import replace
from typing import Any

import cases
import pytest

from optstudy.records.plan import Plan, Trace
from optstudy.study.estimate import STEP_PRODUCTS, curvature_seconds, epoch_seconds
from optstudy.training.curvature import CURVATURE_PRODUCTS, LANDSCAPE_POINTS

PRODUCT = 0.5  # seconds
REHEARSAL = replace(cases.REHEARSAL, product_seconds=PRODUCT)


def plan(**trace: Any) -> Plan:
    return cases.plan(trace=Trace(**{"samples": 20, "last": None, **trace}))


def traced(watched: Plan, since: int, until: int) -> float:
    """Seconds of some epochs beyond those of a run that is not watched."""
    alone = epoch_seconds(REHEARSAL, cases.DESCRIPTION, cases.plan(), since, until)
    return epoch_seconds(REHEARSAL, cases.DESCRIPTION, watched, since, until) - alone


@pytest.mark.parametrize(
    ("watched", "steps"),
    [
        (plan(), 8),
        (plan(every=2), 4),
        (plan(last=3), 3),
        (plan(last=1000), 8),
        (plan(last=0), 0),
    ],
)
def test_every_step_that_is_watched_costs_a_few_products(watched: Plan, steps: int) -> None:
    assert traced(watched, 0, 2) == pytest.approx(steps * STEP_PRODUCTS * PRODUCT)


def test_epochs_add_up_to_the_run() -> None:
    watched = plan(last=5)

    assert traced(watched, 0, 1) + traced(watched, 1, 2) == pytest.approx(traced(watched, 0, 2))
    assert traced(watched, 0, 1) == pytest.approx(STEP_PRODUCTS * PRODUCT)  # one of the last 5 of 8 steps


@pytest.mark.parametrize(("samples", "images"), [(20, 20), (None, cases.TRAIN), (10_000, cases.TRAIN)])
def test_the_end_costs_its_products_and_its_landscapes(samples: int | None, images: int) -> None:
    found = curvature_seconds(REHEARSAL, cases.DESCRIPTION, plan(samples=samples))

    assert found == pytest.approx(CURVATURE_PRODUCTS * PRODUCT + LANDSCAPE_POINTS * images * 0.01)


def test_nothing_measured_costs_nothing() -> None:
    assert curvature_seconds(REHEARSAL, cases.DESCRIPTION, cases.plan()) == 0
