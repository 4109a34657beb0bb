"""Hutch++ against traces that are known."""

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optstudy.curvature import Operator, trace


def power_law(dim: int = 150) -> oracles.Symmetric:
    values = torch.arange(1, dim + 1, dtype=torch.float64) ** -1.0
    return oracles.symmetric(values * torch.where(torch.arange(dim) % 3 == 0, -1.0, 1.0))


def test_a_small_operator_is_exact() -> None:
    a = oracles.symmetric([3.0, -2.0, 1.0])

    found = trace(a.operator(), products=6)

    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high, found.products) == (found.value, found.value, 3)


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_an_operator_of_low_rank_is_exact(rank: int) -> None:
    a = oracles.symmetric([*torch.linspace(1, 2, rank).tolist(), *([0.0] * (100 - rank))])

    found = trace(a.operator(), products=30)

    assert found.value == pytest.approx(float(a.values.sum()), abs=1e-10)
    assert found.high - found.low < 1e-10


def test_a_multiple_of_the_identity_is_exact() -> None:
    """Signs outside of the subspace have the same length each, whatever they are."""
    found = trace(oracles.dense(2.5 * torch.eye(100, dtype=torch.float64)), products=30)

    assert found.low == pytest.approx(250.0, rel=0.1)
    assert found.low <= 250.0 + 1e-9


@pytest.mark.parametrize("products", [6, 7, 31, 90])
def test_no_more_products_are_spent_than_given(products: int) -> None:
    a, counted = power_law(), 0

    def apply(rows: torch.Tensor) -> torch.Tensor:
        nonlocal counted
        counted += len(rows)
        return rows @ a.matrix

    found = trace(Operator(apply, 150, torch.float64, torch.device("cpu"), "counted"), products)

    assert found.products == counted == products


def test_too_few_products_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 6"):
        trace(power_law().operator(), products=5)


def test_intervals_cover_the_trace_at_their_rate_and_values_are_not_biased() -> None:
    a, seeds = power_law(), 200
    truth = float(a.values.sum())

    found = [trace(a.operator(), products=30, seed=seed) for seed in range(seeds)]

    covered = sum(each.low <= truth <= each.high for each in found)
    assert stats.binomtest(covered, seeds, 0.95).pvalue > 1e-3  # neither too narrow nor too wide
    values = torch.tensor([each.value for each in found], dtype=torch.float64)
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / math.sqrt(seeds)


def test_the_subspace_helps_where_the_spectrum_decays() -> None:
    a = oracles.symmetric(torch.arange(1, 201, dtype=torch.float64) ** -2.0)
    truth = float(a.values.sum())

    errors = [abs(trace(a.operator(), products=60, seed=seed).value - truth) for seed in range(20)]

    # Plain signs would be off by sqrt(2 (|A|_F^2 - |diag A|^2) / 60), some 0.18; what 20 rows leave is far less.
    assert sum(errors) / len(errors) < 0.02


@given(
    spectrum=st.lists(st.floats(-1, 1), min_size=7, max_size=20),
    seed=st.integers(0, 2**31),
)
def test_the_interval_holds_its_value(spectrum: list[float], seed: int) -> None:
    found = trace(oracles.symmetric(spectrum, seed).operator(), products=6, seed=seed)

    assert found.low <= found.value <= found.high


def test_float32_estimates_are_accurate_to_float32() -> None:
    a = power_law()

    single, whole = trace(a.operator(torch.float32), seed=1), trace(a.operator(), seed=1)

    assert single.value == pytest.approx(whole.value, abs=1e-4)


def test_the_seed_is_the_only_randomness() -> None:
    a, before = power_law(), torch.get_rng_state()

    assert trace(a.operator(), 30, seed=2) == trace(a.operator(), 30, seed=2)
    assert trace(a.operator(), 30, seed=2) != trace(a.operator(), 30, seed=3)
    assert torch.equal(before, torch.get_rng_state())
