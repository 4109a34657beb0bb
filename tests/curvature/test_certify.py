"""A search for eigenpairs: products and memory that it may use, copies of values, and operators of low rank."""

import dataclasses

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import Operator, gauss_newton, top_eigenpairs
from optstudy.curvature.eigenpairs import Order

DTYPES = [torch.float32, torch.float64]


def counted(operator: Operator, log: list[int]) -> Operator:
    """Return an operator that logs its products, in every precision."""

    def apply(rows: Tensor) -> Tensor:
        log.append(len(rows))
        return operator.apply(rows)

    finer = operator.in_dtype
    in_dtype = None if finer is None else lambda dtype: counted(finer(dtype), log)
    return dataclasses.replace(operator, apply=apply, in_dtype=in_dtype)


@pytest.mark.parametrize("others", [True, False], ids=["any precision", "one precision"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_max_products_bounds_all_products(k: int, dtype: torch.dtype, others: bool) -> None:
    """Those of checks and in float64 included, where none, one and several values are missed."""
    spectra = (
        oracles.bulk(3.0, -2.0, 1.0),
        [1.0] * 60,
        torch.linspace(0.9, 1, 60).tolist(),
    )
    for spectrum in spectra:
        a = oracles.symmetric(spectrum)
        operator = a.operator(dtype) if others else dataclasses.replace(a.operator(dtype), in_dtype=None)
        for most in [*range(max(7, 2 * k + 1), 24), 31, 32, 33, 45, 60]:
            log: list[int] = []
            pairs = top_eigenpairs(counted(operator, log), k=k, max_products=most)
            assert sum(log) == pairs.products <= most
            assert len(pairs.values) == k


def test_max_products_bounds_products_where_float32_is_too_coarse() -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 1.0 - 1e-3, 0.9), seed=1)

    for most in range(7, 80, 3):
        log: list[int] = []
        pairs = top_eigenpairs(
            coarse(counted(a.operator(torch.float32), log)), max_products=most, tolerance=3e-5
        )
        assert sum(log) == pairs.products <= most


def coarse(operator: Operator) -> Operator:
    """Return an operator whose products are rounded to 11 digits, as float16 does, but exact in float64."""
    return dataclasses.replace(operator, apply=lambda rows: operator.apply(rows).half().float())


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_fewest_products_are_two_for_each_pair_and_one(k: int) -> None:
    operator = oracles.symmetric(oracles.bulk(3.0, 2.0)).operator()

    assert len(top_eigenpairs(operator, k=k, max_products=2 * k + 1).values) == k
    message = (
        f"max_products is {2 * k}; give at least {2 * k + 1}, since each of {k} pairs takes two products"
    )
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(operator, k=k, max_products=2 * k)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize(
    "top", [[3.0, -2.0, 1.5, 1.2], [1.0, 1.0, 1.0, 0.8], [1.01, 1.0, 0.99, 0.98]], ids=str
)
def test_memory_does_not_change_the_values(top: list[float], k: int, dtype: torch.dtype) -> None:
    a = oracles.symmetric(oracles.bulk(*top, dim=120))

    for memory in (k + 5, 8, 12, 22, None):
        if memory is None or memory >= k + 5:
            pairs = top_eigenpairs(a.operator(dtype), k=k, memory=memory)
            assert pairs.converged
            assert pairs.check is not None
            # A check has the rest of the memory; copies are only sure where it reached its probability.
            sure = pairs.check.probability <= 0.01
            assert sure or memory
            if sure or len({*top}) == len(top):
                torch.testing.assert_close(pairs.values, a.values[:k], rtol=0.0, atol=1e-4 * top[0])


@pytest.mark.parametrize("k", [1, 2, 4])
def test_too_little_memory_is_refused(k: int) -> None:
    operator = oracles.symmetric(oracles.bulk(3.0, 2.0)).operator()

    with pytest.raises(ValueError, match=f"memory is {k + 4}; give at least {k + 5} vectors for k = {k}"):
        top_eigenpairs(operator, k=k, memory=k + 4)


COPIES = {
    "identity": [1.0] * 30,
    "two and a half": [1.0, 1.0, 0.5],
    "four and a fifth": [1.0, 1.0, 1.0, 1.0, 0.2],
    "plus and minus": [1.0, -1.0] * 10,
    "pairs of both signs": [2.0, -2.0, 1.0, -1.0, 0.5, -0.5],
    "copies in a bulk": oracles.bulk(1.0, 1.0, -1.0, -1.0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", COPIES.values(), ids=COPIES.keys())
def test_copies_of_a_value_are_found(spectrum: list[float], dtype: torch.dtype) -> None:
    a = oracles.symmetric(spectrum)

    for seed in range(5):
        for k in range(1, min(5, len(spectrum)) + 1):
            pairs = top_eigenpairs(a.operator(dtype), k=k, seed=seed)
            assert pairs.converged
            torch.testing.assert_close(
                pairs.values.abs(), a.values[:k].abs(), rtol=0.0, atol=1e-4 * float(a.values[0].abs())
            )


@pytest.mark.parametrize("order", ["largest", "smallest"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", [COPIES["plus and minus"], COPIES["copies in a bulk"]], ids=len)
def test_copies_are_found_in_either_order(spectrum: list[float], dtype: torch.dtype, order: Order) -> None:
    a = oracles.symmetric(spectrum)

    pairs = top_eigenpairs(a.operator(dtype), k=2, order=order)

    assert pairs.converged
    assert pairs.values.tolist() == pytest.approx([1.0 if order == "largest" else -1.0] * 2, abs=1e-4)


def check_ends(operator: Operator, values: Tensor, seed: int = 0) -> None:
    """Both ends of an operator are found, though one of them is a multiple zero."""
    ascending = values.sort().values
    for order, wanted in (("largest", ascending.flip(0)), ("smallest", ascending)):
        pairs = top_eigenpairs(operator, order=order, seed=seed)  # type: ignore[arg-type]  # mypy widens it
        slack = 2e-4 * float(values.abs().max())
        assert pairs.converged
        torch.testing.assert_close(pairs.values, wanted[:2], rtol=0.0, atol=slack)


@pytest.mark.parametrize("part", range(6))
def test_ends_of_a_logistic_regression_on_four_examples_are_found(part: int) -> None:
    """Its Hessian has a rank of 4 at most, and products of any vector lie in the same small space."""
    for seed in range(10 * part, 10 * part + 10):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(4, 20, generator=generator, dtype=torch.float64)
        y = torch.randint(0, 2, (4,), generator=generator).double()
        w = torch.randn(20, generator=generator, dtype=torch.float64)
        model = nn.Linear(20, 1, bias=False).double()
        with torch.no_grad():
            model.weight.copy_(w)
        chance = torch.sigmoid(x @ w)
        truth = torch.linalg.eigvalsh(x.T @ ((chance * (1 - chance)).unsqueeze(1) * x) / 4)

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets)

        for order, wanted in (("largest", truth.flip(0)), ("smallest", truth)):
            pairs = top_eigenpairs(model, loss, (x, y), order=order, seed=seed)  # type: ignore[arg-type]
            slack = 2e-4 * float(truth[-1])
            torch.testing.assert_close(pairs.values, wanted[:2], rtol=0.0, atol=slack)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends_of_a_matrix_of_rank_one_are_found(dtype: torch.dtype) -> None:
    for seed in range(10):
        a = oracles.symmetric([2.0, *([0.0] * 40)], seed)
        check_ends(a.operator(dtype), a.values, seed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends_of_a_gauss_newton_matrix_are_found(dtype: torch.dtype) -> None:
    model, batch = oracles.net(3, 6, 4), oracles.examples(5)
    truth = torch.linalg.eigvalsh(oracles.dense_gauss_newton(model, functional.cross_entropy, batch))

    for seed in range(5):
        check_ends(gauss_newton(model, functional.cross_entropy, batch, dtype=dtype), truth, seed)
