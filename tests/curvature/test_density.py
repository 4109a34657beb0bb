"""The spectral density against spectra that are known."""

import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from optstudy.curvature import Density, Operator, spectral_density


def whole() -> oracles.Symmetric:
    return oracles.symmetric(oracles.bulk(3.0, 2.0, -1.0, dim=80))


def moments(found: Density, power: int) -> Tensor:
    """One estimate of tr A^p / n for each random vector."""
    return (found.weights.nan_to_num() * found.nodes.nan_to_num() ** power).sum(1)


def smoothed(values: Tensor, at: float, width: float) -> float:
    bells = torch.exp(-((at - values) ** 2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))
    return float(bells.mean())


@settings(max_examples=25)
@given(
    spectrum=st.lists(st.floats(-1, 1), min_size=1, max_size=40),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_integrates_to_one(spectrum: list[float], scale: float) -> None:
    found = spectral_density(
        oracles.symmetric([scale * value for value in spectrum]).operator(), probes=2, steps=10
    )

    # Four standard deviations on each side leave out 6e-5 at most.
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose(found.weights.nan_to_num().sum(1), torch.ones(2, dtype=torch.float64))


def test_nodes_and_weights_are_a_quadrature_of_each_start() -> None:
    """With m steps, moments up to 2m - 1 are those of v^T A^p v exactly."""
    a = whole()
    found = spectral_density(a.operator(), probes=3, steps=5, seed=4)
    generator = torch.Generator().manual_seed(4)
    for i in range(3):
        v = torch.randn(1, 80, generator=generator, dtype=torch.float64)[0]
        v /= v.norm()
        for power in range(10):
            exact = v @ torch.linalg.matrix_power(a.matrix, power) @ v
            assert float(moments(found, power)[i]) == pytest.approx(float(exact), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_moments_cover_those_of_the_spectrum_at_their_rate(power: int) -> None:
    # Without values far out, whose squares are so skewed that ten of them have no Student interval.
    a, seeds, probes = oracles.symmetric(oracles.bulk(dim=80)), 200, 10
    truth, factor = float((a.values**power).mean()), float(stats.t.ppf(0.975, probes - 1))
    covered = 0
    for seed in range(seeds):
        each = moments(spectral_density(a.operator(), probes=probes, steps=4, seed=seed), power)
        half = factor * float(each.std()) / math.sqrt(probes)
        covered += abs(float(each.mean()) - truth) <= half

    assert stats.binomtest(covered, seeds, 0.95).pvalue > 1e-3


def test_spread_is_the_standard_error_of_the_density() -> None:
    """At a point of the bulk, and with the width fixed, against the spectrum smoothed likewise."""
    a = oracles.symmetric(oracles.bulk(3.0, 2.0, -1.0, dim=250))
    seeds, probes, width, at = 60, 10, 0.1, 0.2
    truth, factor = smoothed(a.values, at, width), float(stats.t.ppf(0.975, probes - 1))
    covered = 0
    for seed in range(seeds):
        found = spectral_density(a.operator(), probes=probes, steps=20, width=width, seed=seed)
        value, spread = (float(np.interp(at, found.grid, curve)) for curve in (found.density, found.spread))
        covered += abs(value - truth) <= factor * spread

    assert stats.binomtest(covered, seeds, 0.95).pvalue > 1e-3


def test_change_falls_when_steps_grow() -> None:
    a = oracles.symmetric(oracles.bulk(3.0, 2.0, -1.0, dim=700))

    changes = [spectral_density(a.operator(), steps=steps, width=0.1).change for steps in (4, 16, 64)]

    assert changes[0] > changes[1] > changes[2]
    assert changes[2] < 0.1
    assert 0 <= changes[2] < changes[0] <= 2


def test_change_is_zero_if_half_the_steps_are_exact() -> None:
    a = oracles.symmetric([1.0] * 20 + [0.0] * 20)

    assert spectral_density(a.operator(), steps=8).change < 1e-9


def test_an_iteration_that_ends_early_is_padded() -> None:
    a = oracles.symmetric([2.0] * 20 + [1.0] * 20)

    found = spectral_density(a.operator(), probes=3, steps=7)

    assert found.nodes.shape == found.weights.shape == (3, 7)
    assert found.nodes[:, :2].sort().values.tolist() == [pytest.approx([1.0, 2.0])] * 3
    assert bool(found.nodes[:, 2:].isnan().all())
    assert found.products == 6


@pytest.mark.parametrize("value", [0.0, 5.0, -1e-7])
def test_one_value_alone_is_one_bell(value: float) -> None:
    found = spectral_density(oracles.dense(value * torch.eye(10, dtype=torch.float64)))

    assert float(found.grid[found.density.argmax()]) == pytest.approx(value, abs=found.width)
    assert float(torch.trapezoid(found.density, found.grid)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("width", [1e-6, 0.0, -1.0])
def test_a_width_below_the_grid_spacing_is_an_error(width: float) -> None:
    with pytest.raises(ValueError, match="grid of 1024 points"):
        spectral_density(whole().operator(), width=width)


@pytest.mark.parametrize("counts", [{"probes": 1}, {"steps": 1}])
def test_one_probe_or_one_step_is_an_error(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 2 of each"):
        spectral_density(whole().operator(), **counts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_operator_has_the_density_of_all_its_eigenvalues(dtype: torch.dtype) -> None:
    a = whole()

    found = spectral_density(a.operator(dtype), probes=2, steps=40)

    assert found.products == 80
    assert found.nodes.shape == found.weights.shape == (1, 80)
    assert distance(found, a.values) <= found.error < 1e-8
    assert found.change == float(found.spread.max()) == 0


def distance(found: Density, values: Tensor) -> float:
    """Return the distance of a density from that of these eigenvalues, smoothed likewise, in L1."""
    bells = torch.exp(-((found.grid - values.unsqueeze(1)) ** 2) / (2 * found.width**2)).mean(0)
    truth = bells / (found.width * math.sqrt(2 * math.pi))
    return float(torch.trapezoid((found.density - truth).abs(), found.grid))


@pytest.mark.parametrize("counts", [(2, 8), (10, 4), (4, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_error_holds(dtype: torch.dtype, counts: tuple[int, int]) -> None:
    held, seeds = 0, 40
    for seed in range(seeds):
        scale = [-1.0, -2.0][seed % 2]
        a = oracles.symmetric(torch.arange(1, 251, dtype=torch.float64) ** scale, seed)
        found = spectral_density(a.operator(dtype), *counts, seed=seed)
        held += distance(found, a.values) <= found.error

    assert stats.binomtest(held, seeds, 0.95, alternative="less").pvalue > 1e-3


@pytest.mark.parametrize("size", [1e-5, 1e-3, 0.1])
def test_the_noise_of_float32_products_is_in_the_error_or_avoided(size: float) -> None:
    a = oracles.symmetric(oracles.bulk(1.0, dim=250))
    shifts = oracles.symmetric(size * torch.linspace(-1, 1, 250, dtype=torch.float64), 1).matrix
    spent = {torch.float32: 0, torch.float64: 0}

    def operator(dtype: torch.dtype) -> Operator:
        held = (a.matrix + shifts if dtype == torch.float32 else a.matrix).to(dtype)

        def apply(rows: Tensor) -> Tensor:
            spent[dtype] += len(rows)
            return rows @ held

        return Operator(apply, 250, dtype, torch.device("cpu"), "matrix", in_dtype=operator)

    found = spectral_density(operator(torch.float32), probes=6, steps=30)

    assert distance(found, a.values) <= found.error
    assert (spent[torch.float64] >= 180) == (size > 1e-4)
    assert found.products == sum(spent.values())


def test_a_recurrence_that_loses_orthogonality_is_a_quadrature_all_the_same() -> None:
    """Far beyond convergence, nodes are no eigenvalues any more: several stand for one."""
    values = torch.cat([torch.linspace(0, 0.1, 1600), torch.tensor([1.0, 0.9, 0.8])]).double()
    found = spectral_density(Operator(lambda v: v * values, 1603, values.dtype, values.device, "d"), 2, 150)

    for power in range(12):
        generator = torch.Generator().manual_seed(0)
        for each in moments(found, power):
            v = torch.randn(1603, generator=generator, dtype=torch.float64)
            assert float(each) == pytest.approx(
                float((v**2 * values**power).sum() / v.square().sum()), rel=1e-9
            )
    assert int((found.nodes[0] > 0.999).sum()) > 1  # copies of one eigenvalue


def test_groups_change_nothing_but_the_rows_at_once() -> None:
    a, most = oracles.symmetric(oracles.bulk(1.0, dim=100)), 0

    def apply(rows: Tensor) -> Tensor:
        nonlocal most
        most = max(most, len(rows))
        return rows @ a.matrix

    operator = Operator(apply, 100, torch.float64, torch.device("cpu"), "matrix")
    whole, alone = (spectral_density(operator, 5, 10, memory=memory) for memory in (None, 9))
    assert torch.allclose(whole.density, alone.density, atol=1e-9)

    most = 0
    spectral_density(operator, 5, 10, memory=9)
    assert most == 2
    with pytest.raises(ValueError, match="memory is 8; give at least 9 vectors"):
        spectral_density(operator, memory=8)


@pytest.mark.parametrize("counts", [(3, 4), (10, 60)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_that_is_not_symmetric_is_an_error(dtype: torch.dtype, counts: tuple[int, int]) -> None:
    matrix = oracles.symmetric(torch.arange(1, 101, dtype=torch.float64) ** -1.0).matrix
    matrix[3, 70] += 0.05

    with pytest.raises(ValueError, match="the matrix is not symmetric"):
        spectral_density(oracles.dense(matrix, dtype), *counts)
