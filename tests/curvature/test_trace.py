"""Hutch++ against traces that are known."""

import math
from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional

from optstudy.curvature import Operator, hessian, trace


def power_law(dim: int = 150) -> oracles.Symmetric:
    values = torch.arange(1, dim + 1, dtype=torch.float64) ** -1.0
    return oracles.symmetric(values * torch.where(torch.arange(dim) % 3 == 0, -1.0, 1.0))


def test_a_small_operator_is_exact() -> None:
    a = oracles.symmetric([3.0, -2.0, 1.0])

    found = trace(a.operator(), products=6)

    assert found.value == pytest.approx(2.0)
    assert found.low < 2.0 < found.high
    assert found.high - found.low < 1e-12  # rounding
    assert found.products == 3


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

    single, whole = trace(alone(a.operator(torch.float32)), seed=1), trace(a.operator(), seed=1)

    assert single.value == pytest.approx(whole.value, abs=1e-4)


def alone(operator: Operator) -> Operator:
    """Return an operator that is available in its own precision only."""
    return replace(operator, in_dtype=None)


class Counted:
    """A symmetric matrix whose products have an error in float32, as those of a fitted net do; it counts them."""

    def __init__(self, matrix: torch.Tensor, error: torch.Tensor) -> None:
        self.matrix, self.error = matrix, error
        self.products = {torch.float32: 0, torch.float64: 0}
        self.most = 0  # rows at once

    def operator(self, dtype: torch.dtype = torch.float32) -> Operator:
        held = (self.matrix + self.error if dtype == torch.float32 else self.matrix).to(dtype)

        def apply(rows: torch.Tensor) -> torch.Tensor:
            self.products[dtype] += len(rows)
            self.most = max(self.most, len(rows))
            return rows @ held

        return Operator(apply, len(held), dtype, held.device, "matrix", in_dtype=self.operator)


def noisy(size: float, spectrum: torch.Tensor, seed: int) -> Counted:
    """Return a matrix with an error of this 2-norm, whose trace is not zero."""
    matrix = oracles.symmetric(spectrum, seed).matrix
    shifts = torch.linspace(-0.5, 1, len(spectrum), dtype=torch.float64)
    return Counted(matrix, oracles.symmetric(size * shifts, seed + 1).matrix)


@pytest.mark.parametrize("products", [12, 60])
@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0])
def test_intervals_hold_whatever_the_noise_of_float32_products(size: float, products: int) -> None:
    spectrum, held, seeds = torch.arange(1, 121, dtype=torch.float64) ** -1.5, 0, 60
    for seed in range(seeds):
        a = noisy(size, spectrum, seed)
        found = trace(a.operator(), products, seed=seed)
        held += found.low <= float(spectrum.sum()) <= found.high
        assert found.products == sum(a.products.values()) == products

    assert stats.binomtest(held, seeds, 0.95, alternative="less").pvalue > 1e-3


def test_float64_products_are_few_where_float32_suffices() -> None:
    spectrum = torch.arange(1, 121, dtype=torch.float64) ** -1.0
    healthy, fitted = noisy(1e-6, spectrum, 0), noisy(1.0, spectrum, 0)
    for a in (healthy, fitted):
        trace(a.operator(), 90)

    assert healthy.products == {torch.float32: 86, torch.float64: 4}
    assert fitted.products[torch.float64] > 40


@pytest.mark.parametrize("extra", [0, 3, 4, 100])
def test_an_exact_trace_of_a_float32_operator_is_that_in_float64(extra: int) -> None:
    spectrum = torch.linspace(-1, 2, 40, dtype=torch.float64)
    for seed in range(20):
        a = noisy(1e-2, spectrum, seed)
        found = trace(a.operator(), 40 + extra, seed=seed)

        assert found.low < float(spectrum.sum()) < found.high
        assert found.high - found.low < 1e-8
        assert found.products == sum(a.products.values()) <= 40 + extra


def test_exact_intervals_hold_in_one_precision() -> None:
    for seed in range(50):
        matrix = oracles.symmetric(torch.linspace(-1, 2, 40, dtype=torch.float64), seed).matrix.float()
        found = trace(alone(oracles.dense(matrix, torch.float32)), 40)
        assert found.low < float(matrix.double().trace()) < found.high
        assert found.high - found.low < 1e-3


def test_the_memory_bounds_the_rows_at_once_and_the_interval_still_holds() -> None:
    spectrum, held = torch.arange(1, 201, dtype=torch.float64) ** -1.0, 0
    for seed in range(60):
        a = noisy(1e-6, spectrum, seed)
        found = trace(a.operator(), 60, seed=seed, memory=9)
        held += found.low <= float(spectrum.sum()) <= found.high
        assert a.most == 1
        assert found.products == sum(a.products.values()) == 60

    assert stats.binomtest(held, 60, 0.95, alternative="less").pvalue > 1e-3
    with pytest.raises(ValueError, match="memory is 8; give at least 9 vectors"):
        trace(a.operator(), 60, memory=8)


@pytest.mark.parametrize("products", [12, 60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_intervals_hold_for_fitted_nets(dtype: torch.dtype, products: int) -> None:
    held, count = 0, 16
    for seed in range(count):
        model, batch = fitted_net(seed)
        truth = float(oracles.double_backward(model, functional.cross_entropy, batch).trace())
        found = trace(hessian(model, functional.cross_entropy, batch, dtype=dtype), products, seed=seed)
        exact = trace(hessian(model, functional.cross_entropy, batch, dtype=dtype), 200)
        held += found.low <= truth <= found.high
        assert exact.low <= truth <= exact.high
        assert exact.high - exact.low < 1e-5 * truth

    assert stats.binomtest(held, count, 0.95, alternative="less").pvalue > 1e-3


def fitted_net(seed: int) -> tuple[nn.Module, oracles.Batch]:
    """Return a net whose loss is about 1e-7: the weights of its last layer are scaled until all is certain."""
    model = oracles.net(4, 6, 6, 3, seed=seed).double()
    x, _ = oracles.examples(12, 4, 3, seed)
    y = model(x.double()).argmax(1)
    last = list(model[-1].parameters())
    with torch.no_grad():
        while functional.cross_entropy(model(x.double()), y) > 1e-7:
            for parameter in last:
                parameter.mul_(1.2)
    return model.float(), (x, y)


@pytest.mark.parametrize("products", [12, 60, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_that_is_not_symmetric_is_an_error(dtype: torch.dtype, products: int) -> None:
    matrix = oracles.symmetric(torch.arange(1, 101, dtype=torch.float64) ** -1.0).matrix
    matrix[3, 70] += 0.05

    with pytest.raises(ValueError, match="the matrix is not symmetric"):
        trace(oracles.dense(matrix, dtype), products)


def test_a_product_that_is_not_finite_is_an_error() -> None:
    matrix = torch.eye(50, dtype=torch.float64)
    matrix[0, 0] = math.nan
    for products in (30, 90):
        with pytest.raises(FloatingPointError, match="a product with the matrix is not finite"):
            trace(oracles.dense(matrix), products)


def test_the_seed_is_the_only_randomness() -> None:
    a, before = power_law(), torch.get_rng_state()

    assert trace(a.operator(), 30, seed=2) == trace(a.operator(), 30, seed=2)
    assert trace(a.operator(), 30, seed=2) != trace(a.operator(), 30, seed=3)
    assert torch.equal(before, torch.get_rng_state())
