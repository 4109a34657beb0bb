"""A long estimate can be iterated: it says how far it is, and ends with what the plain function returns."""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import (
    Density,
    Eigenpairs,
    EigenTracker,
    Estimate,
    Landscape,
    Operator,
    Progress,
    expand,
    hessian,
    iter_density,
    iter_eigenpairs,
    iter_landscape,
    iter_trace,
    loss_landscape,
    objective,
    spectral_density,
    top_eigenpairs,
    trace,
)

LINE = [-1.0, -0.5, 0.0, 0.5, 1.0]


def operator(dtype: torch.dtype = torch.float64) -> Operator:
    return oracles.symmetric(oracles.bulk(3.0, 2.0, -1.0, dim=80)).operator(dtype)


def net() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (
        torch.randn(20, 6),
        torch.arange(20) % 3,
    )


def landscape(function: Any) -> Any:
    model, batch = net()
    directions = torch.randn(2, 53, generator=torch.Generator().manual_seed(1))
    return function(model, cross_entropy, batch, directions, [LINE, LINE])


ESTIMATES: dict[str, tuple[Any, Any]] = {
    "density": (lambda: iter_density(operator(), 3, 8), lambda: spectral_density(operator(), 3, 8)),
    "trace": (lambda: iter_trace(operator(), 30), lambda: trace(operator(), 30)),
    "exact trace": (lambda: iter_trace(operator(), 90), lambda: trace(operator(), 90)),
    "eigenpairs": (lambda: iter_eigenpairs(operator(), k=3), lambda: top_eigenpairs(operator(), k=3)),
    "float32": (
        lambda: iter_eigenpairs(operator(torch.float32)),
        lambda: top_eigenpairs(operator(torch.float32)),
    ),
    "landscape": (lambda: landscape(iter_landscape), lambda: landscape(loss_landscape)),
}


def parted(steps: Iterator[Any]) -> tuple[list[Any], Any]:
    *progress, result = steps
    assert all(isinstance(step, Progress) for step in progress)
    return progress, result


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0))
    if isinstance(one, tuple):
        return all(map(same, one, other))
    return one is other or one == other or (math.isnan(one) and math.isnan(other))


@pytest.mark.parametrize("name", ESTIMATES)
def test_the_last_item_is_what_the_plain_function_returns_to_the_bit(name: str) -> None:
    iterate, plain = ESTIMATES[name]

    _, found = parted(iterate())
    wanted = plain()

    assert type(found) is type(wanted)
    for field in fields(wanted):
        assert same(getattr(found, field.name), getattr(wanted, field.name)), field.name


@pytest.mark.parametrize("name", ESTIMATES)
def test_work_done_grows_up_to_the_total(name: str) -> None:
    progress, result = parted(ESTIMATES[name][0]())
    done = [step.done for step in progress]

    assert done == sorted(set(done))
    assert all(step.total is None or step.done <= step.total for step in progress)
    if isinstance(result, Density | Eigenpairs):
        assert done[-1] == result.products
    if isinstance(result, Landscape):
        assert done[-1] == progress[-1].total == result.losses.numel()


def test_a_density_says_how_far_it_is_after_each_step() -> None:
    progress, result = parted(iter_density(operator(), 3, 8))

    assert [step.done for step in progress] == list(range(3, 25, 3))
    assert {step.total for step in progress} == {24}
    assert [step.estimate.products for step in progress] == [3, 6, 6, 12, 12, 12, 12, 24]
    assert isinstance(result, Density)


def test_the_values_so_far_approach_those_of_the_result() -> None:
    progress, result = parted(iter_eigenpairs(operator(), k=2))

    assert torch.allclose(progress[-1].estimate, result.values)
    assert len(progress) > 3
    assert not torch.allclose(progress[0].estimate, result.values)


def test_the_trace_in_the_subspace_comes_before_the_estimate() -> None:
    progress, result = parted(iter_trace(operator(), 30))

    assert [(step.done, step.total) for step in progress] == [(10, 30), (20, 30), (30, 30)]
    assert progress[0].estimate is None
    assert isinstance(progress[1].estimate, float)
    assert isinstance(result, Estimate)


def test_an_iteration_may_be_left_before_its_end_and_leaves_nothing_behind() -> None:
    model, batch = net()
    state = torch.get_rng_state()

    for _ in iter_density(hessian(model, cross_entropy, [batch, batch]), 2, 8):
        break

    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_results_are_shown_in_a_line_without_their_numbers() -> None:
    model, batch = net()
    results = [plain() for _, plain in ESTIMATES.values()]
    progress = [step for steps, _ in ESTIMATES.values() for step in steps()]
    function = objective(model, cross_entropy, batch)
    others = [function, expand(function), EigenTracker(cross_entropy, batch, range(3))]

    for record in [*results, *progress, *others, results[3].ratio, results[3].check]:
        assert repr(record).startswith(f"{type(record).__name__}(")
        assert len(repr(record)) < 250
        assert "tensor(" not in repr(record)
        assert "\n" not in repr(record)
