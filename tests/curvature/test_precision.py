"""Precision of eigenpairs: when float32 suffices, and when float64 is used."""

import dataclasses
import functools

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import Operator, certify, hessian, precision, top_eigenpairs
from optstudy.curvature.basis import Basis
from optstudy.curvature.davidson import converge
from optstudy.curvature.lanczos import Lanczos, lanczos_steps
from optstudy.curvature.progress import result_of


def test_tight_tolerances_begin_in_float64() -> None:
    a = oracles.symmetric(oracles.bulk(3.0, 2.0, dim=100))

    pairs = top_eigenpairs(a.operator(torch.float32), tolerance=1e-10)

    assert pairs.dtype == torch.float64
    assert pairs.values.tolist() == pytest.approx([3.0, 2.0], rel=1e-13)


def interpolating() -> tuple[nn.Sequential, tuple[torch.Tensor, torch.Tensor]]:
    """A net whose logits are so large that the loss is 1e-7 or less, and cancels in float32."""
    model, (x, _) = oracles.net(3, 8, 4), oracles.examples(40)
    with torch.no_grad():
        y = model(x).argmax(1)
        top = model(x).topk(2).values
        keep = (top[:, 0] - top[:, 1]) > 0.15
        last = model[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(110)
        last.bias.mul_(110)
    return model, (x[keep], y[keep])


def test_a_loss_that_cancels_in_float32_is_computed_in_float64() -> None:
    model, batch = interpolating()
    with torch.no_grad():
        assert float(functional.cross_entropy(model(batch[0]), batch[1])) < 1e-7
    truth = oracles.by_magnitude(oracles.dense_hessian(model, functional.cross_entropy, batch))

    pairs = top_eigenpairs(model, functional.cross_entropy, batch, k=3)

    assert pairs.dtype == torch.float64
    assert pairs.converged
    assert torch.allclose(pairs.values, truth[:3], rtol=1e-4, atol=1e-4 * abs(float(truth[0])))
    assert pairs.noise < 1e-8 * abs(float(truth[0]))  # float32's, as large as the value, times 2**-29


def test_a_model_in_float32_agrees_with_its_dense_hessian_in_float64() -> None:
    model, batch = oracles.net(3, 6, 4), oracles.examples(20)
    truth = oracles.by_magnitude(oracles.dense_hessian(model, functional.cross_entropy, batch))

    pairs = top_eigenpairs(model, functional.cross_entropy, batch, k=4)

    assert pairs.dtype == torch.float32
    # A value is off by the square of its residual over the gap, or at most by the residual.
    assert (pairs.values - truth[:4]).abs().max() <= pairs.residuals.max()
    assert pairs.operator == "Hessian"


def test_weights_of_classes_in_float32_follow_into_float64() -> None:
    model, batch = oracles.net(3, 6, 4), oracles.examples(20)
    weight = torch.tensor([1.0, 2.0, 0.5, 0.1])
    weighted = functools.partial(functional.cross_entropy, weight=weight.double())
    truth = oracles.by_magnitude(oracles.dense_hessian(model, weighted, batch))

    for loss in (nn.CrossEntropyLoss(weight), functools.partial(functional.cross_entropy, weight=weight)):
        pairs = top_eigenpairs(model, loss, batch, tolerance=1e-6)

        assert pairs.dtype == torch.float64
        assert torch.allclose(pairs.values, truth[:2], rtol=1e-6)
    assert weight.dtype == torch.float32


def test_many_products_alone_are_no_reason_to_leave_float32() -> None:
    near = oracles.dense(torch.diag(torch.linspace(0, 1, 1500, dtype=torch.float64)), torch.float32)

    pairs = top_eigenpairs(near)

    assert pairs.converged
    assert pairs.products > 150
    assert pairs.dtype == torch.float32


def check_orthonormal(rows: Tensor) -> None:
    exact = torch.finfo(rows.dtype).eps
    inner = rows @ rows.T
    assert float((inner - torch.eye(len(inner), dtype=rows.dtype)).abs().max()) < 100 * exact


@pytest.mark.parametrize("capacity", [64, 250])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-9), (torch.float64, 1e-17)])
def test_rows_stay_orthonormal_where_residuals_are_below_rounding(
    dtype: torch.dtype, tolerance: float, capacity: int
) -> None:
    """What is added then lies mostly inside of the basis, and errors must not grow from row to row."""
    a = oracles.symmetric(torch.linspace(1, 0, 250))
    operator = dataclasses.replace(a.operator(dtype), in_dtype=None)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 250, generator=generator, dtype=dtype)

    basis = Basis(operator, capacity)
    pairs, _ = converge(
        operator,
        basis,
        start,
        order="magnitude",
        k=3,
        tolerance=tolerance,
        limit=1000,
        generator=generator,
    )

    check_orthonormal(basis.rows)
    assert float(pairs.values[0]) == pytest.approx(1.0, abs=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("memory", [40, 252])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-9), (torch.float64, 1e-17)])
def test_rows_of_lanczos_stay_orthonormal_where_residuals_are_below_rounding(
    dtype: torch.dtype, tolerance: float, memory: int
) -> None:
    a = oracles.symmetric(torch.linspace(1, 0, 250))

    lanczos = Lanczos(a.operator(dtype), memory, torch.Generator().manual_seed(0))
    result_of(lanczos_steps(lanczos, "magnitude", 3, tolerance, 500))

    check_orthonormal(lanczos.rows[: lanczos.size])
    values, *_ = lanczos.estimates("magnitude", 1)
    assert float(values[0]) == pytest.approx(1.0, abs=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_scales_whose_squares_overflow_or_underflow_float32_are_handled(scale: float) -> None:
    a = oracles.symmetric(scale * torch.tensor(oracles.bulk(1.0, 0.9, 0.8), dtype=torch.float64))
    operator = dataclasses.replace(a.operator(torch.float32), in_dtype=None)

    pairs = top_eigenpairs(operator, tolerance=1e-3)

    torch.testing.assert_close(pairs.values / scale, a.values[:2] / scale, rtol=1e-3, atol=0.0)
    assert pairs.converged
    assert pairs.check is not None
    assert pairs.check.probability <= 0.01


def test_a_check_beyond_float32_precision_runs_in_float64() -> None:
    """Products whose error is a millionth, and a probability that leaves less room."""
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, 0.5, dim=100))
    seen: list[torch.dtype] = []

    def noted(operator: Operator) -> Operator:
        def apply(rows: Tensor) -> Tensor:
            seen.append(operator.dtype)
            return operator.apply(rows)

        finer = operator.in_dtype
        assert finer is not None
        return dataclasses.replace(operator, apply=apply, in_dtype=lambda dtype: noted(finer(dtype)))

    pairs = top_eigenpairs(noted(a.operator(torch.float32)), tolerance=1e-3, probability=1e-9)

    assert pairs.check is not None
    assert pairs.check.probability <= 1e-9
    assert seen[-1] == torch.float64


def regard_all_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the rows of all operators in float32, and take their batches in slices in float64."""
    for module in (certify, precision):
        monkeypatch.setattr(module, "MANY_ENTRIES", 1)


def test_large_operators_stay_in_float32_where_it_is_accurate_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = oracles.net(3, 8, 4), oracles.examples(20)
    regard_all_as_large(monkeypatch)

    pairs = top_eigenpairs(model, functional.cross_entropy, batch, tolerance=1e-3)

    assert pairs.dtype == torch.float32
    assert pairs.noise > 1e-8 * float(pairs.values[0])
    exact = hessian(model, functional.cross_entropy, batch, dtype=torch.float64)
    vectors = pairs.vectors.double()
    true = exact.apply(vectors) - pairs.values.unsqueeze(1) * vectors
    assert bool((true.norm(dim=1) <= pairs.residuals).all())


def test_large_operators_have_products_in_float64_where_float32_is_too_coarse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = interpolating()
    regard_all_as_large(monkeypatch)

    pairs = top_eigenpairs(model, functional.cross_entropy, batch)

    dense = oracles.as_matrix(hessian(model, functional.cross_entropy, batch, dtype=torch.float64))
    assert pairs.values.tolist() == pytest.approx(oracles.by_magnitude(dense)[:2].tolist(), rel=1e-3)
    assert pairs.dtype == torch.float64
    assert pairs.vectors.dtype == torch.float32
    assert pairs.converged


class Flipping(nn.Module):
    """Units of which an example whose first entry is large has others above zero in float32 than in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        offset = inputs[:, :1]
        outputs: Tensor = self.last(functional.relu(self.first(inputs[:, 1:]) + offset - offset))
        return outputs


def test_units_that_are_on_in_float64_alone_are_noticed_wherever_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    regard_all_as_large(monkeypatch)
    torch.manual_seed(0)
    model, inputs, targets = Flipping(), torch.randn(20, 4), torch.randint(4, (20,))
    inputs[:, 0] = 0
    inputs[-1, 0] = 1e9

    pairs = top_eigenpairs(model, functional.cross_entropy, (inputs, targets))

    dense = oracles.as_matrix(
        hessian(model, functional.cross_entropy, (inputs, targets), dtype=torch.float64)
    )
    assert pairs.values.tolist() == pytest.approx(oracles.by_magnitude(dense)[:2].tolist(), rel=1e-4)
    assert pairs.dtype == torch.float64
    assert pairs.converged


def test_a_model_that_takes_no_part_of_a_batch_is_refined_on_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = oracles.net(3, 8, 4), oracles.examples(20)
    regard_all_as_large(monkeypatch)

    def whole(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(targets) != len(batch[1]):
            raise RuntimeError("the batch must be whole")
        return functional.cross_entropy(outputs, targets)

    pairs = top_eigenpairs(model, whole, batch)

    sliced = top_eigenpairs(model, functional.cross_entropy, batch)
    assert pairs.converged
    assert pairs.values.tolist() == pytest.approx(sliced.values.tolist(), rel=1e-6)
