"""What is measured where a run ended, against dense answers in float64."""

import math
from pathlib import Path

import cases
import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import top_eigenpairs
from optstudy.records.curvature import Analysis
from optstudy.records.plan import Trace
from optstudy.training import advance, start
from optstudy.training.analysis import analyse, analyse_run

Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(30, 6, generator=generator, dtype=torch.float64), torch.arange(30) % 3


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


@pytest.fixture(scope="module")
def found(net: nn.Module, batch: Batch) -> Analysis:
    return analyse(net, functional.cross_entropy, batch)


@pytest.fixture(scope="module")
def hessian(net: nn.Module, batch: Batch) -> np.ndarray:
    return oracles.dense_hessian(net, functional.cross_entropy, batch).numpy()


def loss_at(net: nn.Module, batch: Batch, step: Tensor) -> float:
    loss, weights = oracles.of_weights(net, lambda model: functional.cross_entropy(model(batch[0]), batch[1]))
    return float(loss(weights + step))


def test_numbers_are_those_of_the_dense_hessian(found: Analysis, hessian: np.ndarray) -> None:
    values = sorted(np.linalg.eigvalsh(hessian), key=abs, reverse=True)

    np.testing.assert_allclose(found.values, values[:2], rtol=1e-6)
    assert found.ratio[1] <= abs(values[0] / values[1]) <= found.ratio[2]
    assert found.trace[1] <= np.trace(hessian) <= found.trace[2]
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-3)
    assert found.samples == 30


def test_line_and_plane_are_the_loss_at_moved_weights(found: Analysis, net: nn.Module, batch: Batch) -> None:
    first, second = top_eigenpairs(net, functional.cross_entropy, batch).vectors
    middle, nothing = len(found.distances) // 2, torch.zeros_like(first)

    assert found.distances[[0, middle, -1]].tolist() == [-1, 0, 1]
    assert found.line[middle] == pytest.approx(loss_at(net, batch, nothing), rel=1e-12)
    assert found.plane[middle, middle] == pytest.approx(found.line[middle], rel=1e-12)
    np.testing.assert_allclose(found.plane[:, middle], found.line, rtol=1e-9)
    for i, j in ((0, 0), (3, 40), (25, 12), (40, 20)):
        a, b = found.distances[i], found.distances[j]
        assert found.line[i] == pytest.approx(loss_at(net, batch, a * first), rel=1e-9)
        assert found.plane[i, j] == pytest.approx(loss_at(net, batch, a * first + b * second), rel=1e-9)
    rise = (found.line[0] + found.line[-1]) / 2 - found.line[middle]
    assert found.loss_rise == pytest.approx(rise)


def test_the_model_beside_the_loss_bends_by_the_eigenvalues(found: Analysis) -> None:
    step, middle = found.distances[1] - found.distances[0], len(found.distances) // 2
    bend = np.diff(found.line_model, 2) / step**2
    across = np.diff(found.plane_model[middle], 2) / step**2

    np.testing.assert_allclose(bend, found.values[0], rtol=1e-6)
    np.testing.assert_allclose(across, found.values[1], rtol=1e-4)
    assert found.line_model[middle] == pytest.approx(found.line[middle], rel=1e-12)


def test_bytes_give_back_the_same(found: Analysis, net: nn.Module, batch: Batch) -> None:
    partly = analyse(net, functional.cross_entropy, batch, landscape=False, spectrum=False)

    for one in (found, partly):
        again = Analysis.from_bytes(one.to_bytes())
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(again, name), value)
            assert type(getattr(again, name)) is type(value) or isinstance(value, str | int | float)
    assert math.isnan(partly.loss_rise)
    assert np.isnan(partly.trace).all()


def test_a_run_is_analysed_on_the_sample_of_its_trace(tmp_path: Path) -> None:
    plan = cases.plan(trace=Trace(samples=20, last=0))
    with cases.project(tmp_path):
        state, _ = advance(start(plan), plan, 1)
        threads = torch.get_num_threads()
        found = Analysis.from_bytes(analyse_run(plan, state.to_bytes()))

    assert found.samples == 20
    assert found.plane.shape == (41, 41)
    assert found.line[20] == pytest.approx(found.plane[20, 20], rel=1e-6)
    assert torch.get_num_threads() == threads
