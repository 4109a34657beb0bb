"""Arithmetic of long rows against dense float64: chunks change nothing, and no scale overflows."""

import math

import pytest
import torch
from torch import Tensor

from optstudy.curvature.rows import (
    CHUNK,
    combine_,
    combined,
    inner_products,
    norm,
    norms,
    random_row,
    subtract_,
)

SIZES = [1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7]
DTYPES = [torch.float32, torch.float64]


def drawn(count: int, size: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Return rows of normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64).to(dtype)


def rounding(dtype: torch.dtype, size: int) -> float:
    """Return a few last digits of a sum of so many normal numbers."""
    return 100 * torch.finfo(dtype).eps * math.sqrt(size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_inner_products_are_those_of_float64(size: int, dtype: torch.dtype) -> None:
    first, second = drawn(3, size, dtype), drawn(2, size, dtype, seed=1)

    found = inner_products(first, second)

    assert found.dtype == torch.float64
    torch.testing.assert_close(
        found, first.double() @ second.double().T, rtol=0.0, atol=rounding(dtype, size)
    )
    assert inner_products(first[:0], second).shape == (0, 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_combinations_are_those_of_float64(size: int, dtype: torch.dtype) -> None:
    rows, mix = drawn(4, size, dtype), drawn(2, 4, torch.float64, seed=1)
    truth = mix @ rows.double()

    alone = combined(mix, rows)
    last = rows[2:].clone()
    combine_(rows, mix)

    for found in (alone, rows[:2]):
        torch.testing.assert_close(found.double(), truth, rtol=0.0, atol=rounding(dtype, 4) * 10)
    assert torch.equal(rows[2:], last)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_a_combination_is_subtracted_in_place(size: int, dtype: torch.dtype) -> None:
    rows, coefficients = drawn(4, size, dtype), drawn(1, 4, torch.float64, seed=1)[0]
    row = drawn(1, size, dtype, seed=2)[0]
    truth, before = row.double() - coefficients @ rows.double(), row.clone()

    subtract_(row, coefficients[:0], rows[:0])
    assert torch.equal(row, before)
    subtract_(row, coefficients, rows)

    torch.testing.assert_close(row.double(), truth, rtol=0.0, atol=rounding(dtype, 4) * 10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.float32, 1.0),
        (torch.float32, 1e-30),
        (torch.float32, 1e30),
        (torch.float64, 1.0),
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
    ],
)
def test_a_norm_is_right_at_any_scale(size: int, dtype: torch.dtype, scale: float) -> None:
    row = drawn(1, size, dtype)[0] * scale

    truth = scale * float((row.double() / scale).norm())

    assert norm(row) == pytest.approx(truth, rel=1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_sees_small_chunks_beside_large_ones(dtype: torch.dtype) -> None:
    row = torch.full((2 * CHUNK,), 1e-30, dtype=dtype)
    row[CHUNK] = 1e-25

    assert norm(row) == pytest.approx(math.hypot(1e-25, 1e-30 * math.sqrt(2 * CHUNK - 1)), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_is_zero_infinite_or_nan_where_the_row_is(dtype: torch.dtype) -> None:
    row = torch.zeros(CHUNK + 3, dtype=dtype)
    assert norm(row) == 0.0
    assert norm(row[:0]) == 0.0

    row[-1] = -math.inf
    assert norm(row) == math.inf
    row[0] = math.nan
    assert math.isnan(norm(row))


def test_norms_are_those_of_each_row() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e-30, 4e-30]])

    assert norms(rows).tolist() == pytest.approx([5.0, 0.0, 5e-30], rel=1e-6)
    assert norms(rows[:0]).shape == (0,)


def test_a_long_unit_row_has_norm_one() -> None:
    row = torch.empty(3_000_000)
    random_row(row, torch.Generator().manual_seed(0))

    row /= norm(row)

    assert float(row.double().norm()) == pytest.approx(1.0, abs=1e-6)
    assert norm(row) == pytest.approx(1.0, abs=1e-6)
    assert float(inner_products(row.unsqueeze(0), row.unsqueeze(0))) == pytest.approx(1.0, abs=1e-6)


def test_a_random_row_depends_on_the_generator_alone() -> None:
    rows = torch.empty(3, 40 * CHUNK)
    for row, seed in zip(rows, (0, 0, 1), strict=True):
        random_row(row, torch.Generator().manual_seed(seed))

    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert float(rows.double().mean()) == pytest.approx(0.0, abs=5e-3)
    assert float(rows.double().var()) == pytest.approx(1.0, abs=5e-3)
