"""Lanczos iteration in one block: its relation, orthonormal rows, restarts, and asymmetry."""

import dataclasses
import math

import oracles
import pytest
import torch
from torch import Tensor

from optstudy.curvature.lanczos import Lanczos, lanczos_steps
from optstudy.curvature.progress import result_of
from optstudy.curvature.ritz import Ritz

DTYPES = [torch.float32, torch.float64]
SPECTRUM = oracles.bulk(3.0, -2.5, 2.0, 1.5, dim=80)


def begun(
    a: oracles.Symmetric, dtype: torch.dtype, memory: int = 30, locked: Tensor | None = None
) -> Lanczos:
    """Return an iteration, in the complement of some rows if they are given."""
    operator, pairs = a.operator(dtype), None
    if locked is not None:
        rows = locked.to(dtype)
        values = (locked @ a.matrix * locked).sum(1)
        pairs = Ritz(values, rows, operator.apply(rows))
    return Lanczos(operator, memory, torch.Generator().manual_seed(0), pairs)


def advanced(lanczos: Lanczos, products: int, k: int = 2) -> Lanczos:
    """Multiply so often, with restarts where the rows are full."""
    for _ in range(products):
        if lanczos.full:
            lanczos.restart("magnitude", k)
        lanczos.advance()
    return lanczos


def check_relation(lanczos: Lanczos, a: oracles.Symmetric) -> None:
    """A Q = V B + Q T + beta q e^T with orthonormal rows, and the section is that of the matrix."""
    exact = 100 * torch.finfo(lanczos.rows.dtype).eps
    size, scale = lanczos.size, float(a.values[0].abs())
    held = size + (not lanczos.exhausted)
    rows = lanczos.rows[:held].double()
    torch.testing.assert_close(rows @ rows.T, torch.eye(held, dtype=torch.float64), rtol=0.0, atol=exact)
    of_iteration = rows[lanczos.locked : size]
    torch.testing.assert_close(
        of_iteration @ a.matrix @ rows[:size].T,
        lanczos.projected[lanczos.locked :],
        rtol=0.0,
        atol=exact * scale,
    )
    predicted = lanczos.projected[lanczos.locked :] @ rows[:size]
    if not lanczos.exhausted:  # beta e, or just after a restart the arrow of the rows kept
        predicted += lanczos.section[lanczos.locked : size, size].outer(rows[size])
    torch.testing.assert_close(of_iteration @ a.matrix, predicted, rtol=0.0, atol=exact * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("products", [1, 2, 10, 28])
def test_products_follow_the_relation_of_lanczos(products: int, dtype: torch.dtype) -> None:
    a = oracles.symmetric(SPECTRUM)

    lanczos = advanced(begun(a, dtype), products)

    assert lanczos.size == products
    check_relation(lanczos, a)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory", [7, 8, 12, 30])
def test_restarts_keep_the_relation(memory: int, dtype: torch.dtype) -> None:
    a = oracles.symmetric(SPECTRUM)
    lanczos = begun(a, dtype, memory)
    for _ in range(60):
        if lanczos.full:
            before, *_ = lanczos.estimates("magnitude", 2)
            lanczos.restart("magnitude", 2)
            after, *_ = lanczos.estimates("magnitude", 2)
            torch.testing.assert_close(before, after, rtol=0.0, atol=1e-14)
            check_relation(lanczos, a)
        lanczos.advance()

    check_relation(lanczos, a)
    assert lanczos.size < memory


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mixed", [0.0, 1e-2], ids=["eigenvectors", "approximate"])
def test_locked_rows_keep_the_relation(mixed: float, dtype: torch.dtype) -> None:
    """Also where they are no eigenvectors, so that products have parts along them."""
    a = oracles.symmetric(SPECTRUM)
    noise = torch.randn(3, 80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    locked = torch.linalg.qr((a.vectors[:3] + mixed * noise).T).Q.T.contiguous()

    lanczos = advanced(begun(a, dtype, locked=locked), 12)

    assert lanczos.size == 3 + 12
    check_relation(lanczos, a)
    assert bool((lanczos.krylov.triu(2).abs() <= 100 * torch.finfo(dtype).eps).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_restarts_with_locked_eigenvectors_keep_the_relation(dtype: torch.dtype) -> None:
    a = oracles.symmetric(SPECTRUM)

    lanczos = advanced(begun(a, dtype, memory=12, locked=a.vectors[:2]), 40, k=3)

    check_relation(lanczos, a)
    values, *_ = lanczos.estimates("magnitude", 3)
    torch.testing.assert_close(values, a.values[:3], rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("memory", "products"), [(30, 6), (30, 20), (12, 25)])
def test_estimates_are_true_residuals_without_locked_rows(
    memory: int, products: int, dtype: torch.dtype
) -> None:
    a = oracles.symmetric(SPECTRUM)
    lanczos = advanced(begun(a, dtype, memory), products)

    values, estimates, _ = lanczos.estimates("magnitude", 3)
    pairs = lanczos.ritz("magnitude", 3)

    vectors, exact = pairs.vectors.double(), 100 * torch.finfo(dtype).eps * 3
    true = (vectors @ a.matrix - values.unsqueeze(1) * vectors).norm(dim=1)
    torch.testing.assert_close(estimates, true, rtol=0.0, atol=exact)
    torch.testing.assert_close(pairs.residuals, true, rtol=0.0, atol=exact)
    torch.testing.assert_close(pairs.images.double(), vectors @ a.matrix, rtol=0.0, atol=exact)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_exhausted_space_goes_on_from_another_row(dtype: torch.dtype) -> None:
    """Three distinct values: a start sees one vector of each, and the next start the copies."""
    a = oracles.symmetric([2.0, 2.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    lanczos = begun(a, dtype)

    sizes = []
    while not lanczos.exhausted or lanczos.begin_again():
        lanczos.advance()
        if lanczos.exhausted:
            assert lanczos.coupling == 0.0
            sizes.append(lanczos.size)
            check_relation(lanczos, a)

    assert sizes == [3, 6, 7]
    values = torch.linalg.eigvalsh(lanczos.projected)
    torch.testing.assert_close(values, a.values.sort().values, rtol=0.0, atol=1e-5)
    assert not lanczos.begin_again()


def test_a_zero_matrix_is_exhausted_at_once() -> None:
    lanczos = advanced(begun(oracles.symmetric([0.0] * 5), torch.float64), 1)

    assert lanczos.exhausted
    assert lanczos.projected.tolist() == [[0.0]]
    assert lanczos.begin_again()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory", [8, 30])
def test_asymmetry_of_a_symmetric_matrix_is_rounding(memory: int, dtype: torch.dtype) -> None:
    """Also beside locked rows that are no eigenvectors, along which products have true parts."""
    a = oracles.symmetric(SPECTRUM)
    locked = torch.linalg.qr(torch.randn(80, 2, generator=torch.Generator().manual_seed(3)).double()).Q.T

    for lanczos in (begun(a, dtype, memory), begun(a, dtype, memory, locked)):
        products = 50 if not lanczos.locked else memory - 4
        assert advanced(lanczos, products).asymmetry < 30 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory", [8, 30])
def test_asymmetry_of_another_matrix_is_seen(memory: int, dtype: torch.dtype) -> None:
    a = oracles.symmetric(SPECTRUM)
    noise = torch.randn(80, 80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bent = dataclasses.replace(a, matrix=a.matrix + 1e-3 * noise)

    lanczos = advanced(begun(bent, dtype, memory), 25)

    assert lanczos.asymmetry > 1e-4


def test_long_rows_stay_orthonormal_in_float32() -> None:
    """Twenty rows of 3 million entries, where sums in float32 alone would be off by 1e-4."""
    diagonal = torch.linspace(-1, 1, 3_000_000)
    one = oracles.symmetric([1.0]).operator(torch.float32)
    operator = dataclasses.replace(one, apply=lambda rows: rows * diagonal, dim=len(diagonal), in_dtype=None)

    lanczos = advanced(Lanczos(operator, 22, torch.Generator().manual_seed(0)), 20)

    rows = lanczos.rows[:20]
    gram = torch.stack([rows[:, part].double() @ rows[:, part].double().T for part in parts(3_000_000)]).sum(
        0
    )
    torch.testing.assert_close(gram, torch.eye(20, dtype=torch.float64), rtol=0.0, atol=1e-5)


def parts(size: int) -> list[slice]:
    """Return a few slices that cover a row, so that a copy in float64 stays small."""
    return [slice(start, start + size // 10) for start in range(0, size, size // 10)]


def test_steps_spend_no_more_than_their_limit() -> None:
    a = oracles.symmetric(SPECTRUM)

    for limit in (1, 5, 17):
        lanczos = begun(a, torch.float64, memory=8)
        assert result_of(lanczos_steps(lanczos, "magnitude", 2, 1e-15, limit)) == limit


def test_steps_end_where_nothing_is_left() -> None:
    lanczos = begun(oracles.symmetric([2.0, 1.0, 1.0, 0.0]), torch.float64)

    assert result_of(lanczos_steps(lanczos, "magnitude", 4, 1e-12, 99)) == 4


def test_a_product_that_is_not_finite_is_an_error() -> None:
    a = oracles.symmetric(SPECTRUM)
    broken = dataclasses.replace(a.operator(), apply=lambda rows: rows * math.nan)

    with pytest.raises(FloatingPointError, match="matrix is not finite"):
        Lanczos(broken, 10, torch.Generator().manual_seed(0)).advance()
