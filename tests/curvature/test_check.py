"""The search for missed values: the paper's bound, and how often it fails."""

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optstudy.curvature import Operator
from optstudy.curvature.basis import Ritz, empty_basis
from optstudy.curvature.check import (
    check_complement,
    failure_bound,
    judge,
    products_for,
    search_complement,
)


def known(a: oracles.Symmetric, count: int) -> Ritz:
    """The first eigenpairs."""
    vectors = a.vectors[:count]
    return Ritz(a.values[:count], vectors, vectors @ a.matrix)


def checked(
    a: oracles.Symmetric, count: int, seed: int = 0, order: str = "magnitude", slack: float = 0.0
) -> float:
    """The probability that a check of the first eigenpairs states."""
    found, _ = check_complement(
        a.operator(),
        known(a, count),
        order,
        following=abs(float(a.values[count])),
        slack=slack,
        probability=0.01,
        generator=torch.Generator().manual_seed(seed),
    )
    return found.probability


def test_bound_is_twice_that_of_theorem_4_2() -> None:
    share = 0.3 / (1.0 + 2 * 0.3)

    one_end = 1.648 * math.sqrt(1000) * math.exp(-math.sqrt(share) * (2 * 20 - 1))

    assert failure_bound(1000, 20, margin=0.3, width=1.0) == pytest.approx(2 * one_end)


@pytest.mark.parametrize("margin", [0.0, -1.0])
def test_a_value_beyond_the_threshold_leaves_no_certainty(margin: float) -> None:
    assert failure_bound(100, 40, margin, 1.0) == 1.0
    assert products_for(100, 0.01, margin, 1.0) == math.inf


@given(
    dim=st.integers(1, 10**8),
    probability=st.floats(1e-6, 0.5),
    margin=st.floats(1e-3, 1e3),
    width=st.floats(0, 1e3),
)
def test_the_products_asked_for_reach_the_probability(
    dim: int, probability: float, margin: float, width: float
) -> None:
    products = products_for(dim, probability, margin, width)

    # At j products exactly; the formula is inverted, so rounding is all that differs.
    share = margin / (width + 2 * margin)
    reached = 2 * 1.648 * math.sqrt(dim) * math.exp(-math.sqrt(share) * (2 * products - 1))
    assert reached == pytest.approx(probability, rel=1e-9)


def test_the_bound_holds_over_many_starts() -> None:
    """One value lies beyond what is known; how often is it not seen, against the probability stated then."""
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, 0.7, dim=80, width=0.6))
    threshold, starts = 0.65, 400
    stated: list[float] = []
    for seed in range(starts):
        generator = torch.Generator().manual_seed(seed)
        basis = search_complement(a.operator(), a.vectors[:2], 4 + seed % 10, generator)
        check, _ = judge(basis, "magnitude", threshold)
        stated.append(check.probability if abs(check.found) < threshold else 1.0)

    # A p-value: where a value is missed, one of at most p is stated in a share of at most p of the starts.
    for p in (0.5, 0.2, 0.05, 0.01):
        share = sum(s <= p for s in stated) / starts
        assert share <= p + 3 * math.sqrt(p * (1 - p) / starts)
    assert min(stated) < 1  # elsewise nothing was tried
    assert sum(s == 1.0 for s in stated) > starts / 2  # most starts see it


def test_a_value_orthogonal_to_nothing_is_found_where_it_lies() -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, -0.8))

    check, outermost = check_complement(
        a.operator(),
        known(a, 2),
        "magnitude",
        following=0.5,
        slack=0.0,
        probability=0.01,
        generator=torch.Generator().manual_seed(0),
    )

    assert check.found == pytest.approx(-0.8, abs=1e-3)
    assert abs(float(outermost.vectors[0] @ a.vectors[2])) > 0.99


def test_products_stay_between_ten_and_forty() -> None:
    easy = oracles.symmetric(oracles.bulk(100.0, 99.0, dim=300, width=0.1))
    hard = oracles.symmetric(oracles.bulk(1.0, 0.9, 0.8999, dim=300))
    spent = []
    for a in (easy, hard):
        found, _ = check_complement(
            a.operator(),
            known(a, 2),
            "magnitude",
            following=abs(float(a.values[2])),
            slack=0.0,
            probability=1e-2,
            generator=torch.Generator().manual_seed(0),
        )
        spent.append(found.products)
        assert found.probability == (pytest.approx(1, abs=1) if a is hard else pytest.approx(0, abs=1e-2))

    assert spent[0] == 10
    assert spent[1] == 40


def test_nothing_is_missed_where_the_complement_was_searched_whole() -> None:
    a = oracles.symmetric([3.0, -2.0, 1.0, 0.5, 0.1])

    assert checked(a, 2) == 0.0
    assert checked(a, 5 - 1) == 0.0


def test_nothing_is_missed_where_the_known_vectors_are_all() -> None:
    a = oracles.symmetric([3.0, -2.0])
    operator = a.operator()

    check, _ = judge(
        search_complement(operator, a.vectors, 10, torch.Generator().manual_seed(0)), "magnitude", 2.0
    )

    assert (check.products, check.probability) == (0, 0.0)


def test_an_exhausted_krylov_space_leaves_next_to_no_doubt() -> None:
    """Two distinct values outside: three products see all that a start sees, and it sees all but surely."""
    a = oracles.symmetric([1.0, 0.9, *([0.5] * 40), *([0.0] * 40)])

    assert checked(a, 2) < 1e-9


def test_a_multiple_value_at_the_edge_counts_as_missed_only_beyond_the_tolerance() -> None:
    a = oracles.symmetric([1.0] * 50)

    assert checked(a, 2, slack=1e-4) < 1e-6


@pytest.mark.parametrize("order", ["magnitude", "largest", "smallest"])
def test_found_is_furthest_out_in_the_order(order: str) -> None:
    a = oracles.symmetric([-3.0, 2.0, 1.0, -0.5])
    basis = search_complement(a.operator(), a.vectors[:0], 4, torch.Generator().manual_seed(0))

    check, _ = judge(basis, order, 5.0)

    assert check.found == pytest.approx({"magnitude": -3.0, "largest": 2.0, "smallest": -3.0}[order])


def test_a_search_of_nothing_finds_nothing() -> None:
    nothing = Operator(lambda rows: rows, 3, torch.float64, torch.device("cpu"), "identity")

    check, outermost = judge(empty_basis(nothing), "magnitude", 1.0)

    assert check.products == 0
    assert not len(outermost.values)
