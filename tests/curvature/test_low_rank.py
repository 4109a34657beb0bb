"""What earlier steps say of an operator: Davidson's correction against a dense solve, and what is kept."""

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optstudy.curvature import Operator
from optstudy.curvature.basis import Basis
from optstudy.curvature.davidson import converge
from optstudy.curvature.low_rank import MAX_RATIO, LowRank, zero_matrix

SPECTRUM = oracles.bulk(4.0, -3.0, 2.0, -1.5, 1.2, 0.9, dim=40)


def rest(a: oracles.Symmetric, first: int, end: int = 40) -> LowRank:
    """Return the exact pairs of a matrix after the first ones."""
    return LowRank(a.values[first:end], a.vectors[first:end])


def drawn(dim: int = 40, seed: int = 0) -> Tensor:
    return torch.randn(dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basis_of(operator: Operator, block: Tensor) -> Basis:
    """Return a basis of some rows."""
    basis = Basis(operator, len(block))
    basis.append(operator, block)
    return basis


@given(st.integers(0, 1000))
def test_a_correction_solves_with_the_matrix(seed: int) -> None:
    a = oracles.symmetric(SPECTRUM, seed)
    known = rest(a, 2)
    matrix = known.vectors.T @ torch.diag(known.values) @ known.vectors
    residual = drawn(seed=seed)

    for value in (4.0, -3.0):
        solved = torch.linalg.solve(value * torch.eye(40, dtype=torch.float64) - matrix, value * residual)
        torch.testing.assert_close(known.correction(value, residual), solved, rtol=1e-10, atol=1e-10)


def test_one_correction_leaves_an_error_of_second_order() -> None:
    """Of a Ritz vector that is off by 1e-4, with all else known: what one product then shows is off by 1e-8."""
    a = oracles.symmetric(SPECTRUM)
    start = a.vectors[:2] + 1e-4 * torch.stack([drawn(seed=1), drawn(seed=2)])

    def products(known: LowRank) -> int:
        generator = torch.Generator().manual_seed(0)
        found, spent = converge(
            a.operator(), Basis(a.operator(), 40), start, order="magnitude", k=2, tolerance=1e-7, limit=99,
            generator=generator, approximation=known,
        )  # fmt: skip
        assert bool((found.residuals <= 1e-7 * found.values[0].abs()).all())
        return spent

    assert products(rest(a, 2)) == 2 + 2
    assert products(zero_matrix(a.operator())) > 2 + 2


def test_the_zero_matrix_returns_the_residual() -> None:
    a, residual = oracles.symmetric(SPECTRUM), drawn()

    assert torch.equal(zero_matrix(a.operator()).correction(2.0, residual), residual)
    assert torch.equal(rest(a, 2).correction(0.0, residual), residual)


@pytest.mark.parametrize("value", [0.99, 1.0, 1.5, 100.0])
def test_the_correction_of_near_values_is_bounded(value: float) -> None:
    known = LowRank(torch.tensor([value]), torch.eye(3, dtype=torch.float64)[:1])

    found = known.correction(1.0, torch.ones(3, dtype=torch.float64))

    assert found.tolist() == pytest.approx([1 / (1 - MAX_RATIO), 1.0, 1.0])


def test_a_basis_leaves_its_first_pairs_out_and_adds_the_others() -> None:
    a = oracles.symmetric(SPECTRUM)
    basis = basis_of(a.operator(), a.vectors[:5])

    known = zero_matrix(a.operator()).updated(basis, 2, 10)

    assert known.values.tolist() == pytest.approx([2.0, -1.5, 1.2])
    torch.testing.assert_close(
        known.vectors.abs() @ a.vectors[2:5].T.abs(), known.vectors.abs() @ known.vectors.T.abs()
    )


def test_a_constant_operator_is_recovered() -> None:
    """A basis with parts of every vector, and the rest remembered: together they are the matrix."""
    a = oracles.symmetric(SPECTRUM)
    mixed = torch.cat([a.vectors[:2], torch.stack([drawn(seed=1), drawn(seed=2)])])
    basis = basis_of(a.operator(), mixed)

    known = rest(a, 2).updated(basis, 2, 4)

    torch.testing.assert_close(known.values, a.values[2:6], rtol=0.0, atol=1e-8)
    torch.testing.assert_close(
        (known.vectors @ a.vectors[2:6].T).abs(), torch.eye(4, dtype=torch.float64), rtol=0.0, atol=1e-6
    )
    assert len(rest(a, 2).updated(basis, 2, 0).values) == 0


def test_float32_vectors_stay_orthonormal_over_many_steps() -> None:
    """All but rounding of what is remembered may lie inside of the next basis."""
    a = oracles.symmetric(SPECTRUM)
    operator, known = a.operator(torch.float32), zero_matrix(a.operator(torch.float32))
    for seed in range(50):
        noise = 10.0 ** -(seed % 8) * torch.stack([drawn(seed=seed), drawn(seed=seed + 1)])
        block = torch.cat([a.vectors[:2], a.vectors[2:4] + noise]).float()
        known = known.updated(basis_of(operator, block), 2, 6)

        inner = known.vectors @ known.vectors.T
        torch.testing.assert_close(inner, torch.eye(len(inner)), rtol=0.0, atol=1e-3)
    assert known.values[:2].tolist() == pytest.approx([2.0, -1.5], abs=1e-2)


def test_new_products_replace_earlier_ones() -> None:
    before, after = oracles.symmetric(SPECTRUM), oracles.symmetric([2 * value for value in SPECTRUM])
    basis = basis_of(after.operator(), after.vectors[:4])

    known = rest(before, 2, 6).updated(basis, 2, 4)

    assert known.values.tolist() == pytest.approx([4.0, -3.0, 1.2, 0.9])
