"""What is measured of a model, and where a run ended, against dense answers in float64."""

import math
from collections.abc import Iterator
from pathlib import Path

import cases
import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import Eigenpairs, Operator, Progress, iter_eigenpairs, top_eigenpairs
from optstudy.records.curvature import CurvatureResult
from optstudy.records.plan import Trace
from optstudy.training import advance, start
from optstudy.training.curvature import curvature_steps, measure_curvature, measure_final_curvature

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
def found(net: nn.Module, batch: Batch) -> CurvatureResult:
    return measure_curvature(net, functional.cross_entropy, batch, density=True, landscape=True)


@pytest.fixture(scope="module")
def hessian(net: nn.Module, batch: Batch) -> np.ndarray:
    return oracles.dense_hessian(net, functional.cross_entropy, batch).numpy()


def loss_at(net: nn.Module, batch: Batch, step: Tensor) -> float:
    loss, weights = oracles.of_weights(net, lambda model: functional.cross_entropy(model(batch[0]), batch[1]))
    return float(loss(weights + step))


def test_numbers_are_those_of_the_dense_hessian(found: CurvatureResult, hessian: np.ndarray) -> None:
    values = sorted(np.linalg.eigvalsh(hessian), key=abs, reverse=True)

    np.testing.assert_allclose(found.values, values[:2], rtol=1e-6)
    assert found.ratio[1] <= abs(values[0] / values[1]) <= found.ratio[2]
    assert found.trace[1] <= np.trace(hessian) <= found.trace[2]
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-3)
    assert found.samples == 30


def test_line_and_plane_are_the_loss_at_moved_weights(
    found: CurvatureResult, net: nn.Module, batch: Batch
) -> None:
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


def test_the_quadratic_model_has_the_eigenvalues_as_curvatures(found: CurvatureResult) -> None:
    step, middle = found.distances[1] - found.distances[0], len(found.distances) // 2
    bend = np.diff(found.line_model, 2) / step**2
    across = np.diff(found.plane_model[middle], 2) / step**2

    np.testing.assert_allclose(bend, found.values[0], rtol=1e-6)
    np.testing.assert_allclose(across, found.values[1], rtol=1e-4)
    assert found.line_model[middle] == pytest.approx(found.line[middle], rel=1e-12)


def test_loss_and_gradient_norm_are_those_of_the_sample(
    found: CurvatureResult, net: nn.Module, batch: Batch
) -> None:
    loss = functional.cross_entropy(net(batch[0]), batch[1])
    slopes = torch.autograd.grad(loss, list(net.parameters()))

    assert found.loss == pytest.approx(loss.item())
    assert found.gradient_norm == pytest.approx(
        math.sqrt(sum(float(slope.square().sum()) for slope in slopes))
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_eigenpairs_are_computed_only_once(
    k: int, net: nn.Module, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(operator: Operator, *, k: int) -> Iterator[Progress[Tensor] | Eigenpairs]:
        calls.append(k)
        return iter_eigenpairs(operator, k=k)

    monkeypatch.setattr("optstudy.training.curvature.iter_eigenpairs", counted)

    result = measure_curvature(net, functional.cross_entropy, batch, k=k, density=True, landscape=True)

    assert calls == [max(k, 2)]
    assert len(result.values) == len(result.residuals) == k


def test_each_part_of_a_measurement_says_how_far_it_is(net: nn.Module, batch: Batch) -> None:
    steps = list(
        curvature_steps(net, functional.cross_entropy, batch, k=2, dtype=None, density=True, landscape=True)
    )

    assert list(dict.fromkeys(step.part for step in steps)) == [
        "eigenvalues", "spectrum", "trace", "loss line", "loss plane"
    ]  # fmt: skip
    last = {(step.part, step.total): step.done for step in steps}
    totals = {("spectrum", 83): 83, ("loss line", 41): 41, ("loss plane", 41 * 41): 41 * 41}
    assert totals.items() <= last.items()
    assert all(step.total is None or step.done <= step.total for step in steps)


def test_optional_measurements_are_absent_by_default(net: nn.Module, batch: Batch) -> None:
    partly = measure_curvature(net, functional.cross_entropy, batch)

    assert math.isnan(partly.loss_rise)
    assert np.isnan(partly.trace).all()
    assert not len(partly.grid)


def test_a_run_is_measured_on_the_sample_of_its_trace(tmp_path: Path) -> None:
    plan = cases.plan(trace=Trace(samples=20, last=0, seed=3))
    with cases.project(tmp_path):
        state, _ = advance(start(plan), plan, 1)
        threads = torch.get_num_threads()
        found = CurvatureResult.from_bytes(measure_final_curvature(plan, state.to_bytes()))

    assert (found.samples, found.seed) == (20, 3)
    assert found.plane.shape == (41, 41)
    assert found.line[20] == pytest.approx(found.plane[20, 20], rel=1e-6)
    assert torch.get_num_threads() == threads
