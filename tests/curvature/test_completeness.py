"""The search for missed values: its bound against the exact part of the start, and how often it fails."""

import itertools
import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optstudy.curvature import Check, Operator
from optstudy.curvature.basis import Ritz
from optstudy.curvature.completeness import (
    MAX_CHECK_PRODUCTS,
    Search,
    bound_start_component,
    check_complement,
    search_complement,
)


def searched(a: oracles.Symmetric, count: int, products: int, seed: int = 0) -> Search:
    """Return a search outside of the first eigenvectors after some products."""
    generator = torch.Generator().manual_seed(seed)
    every = search_complement(a.operator(), a.vectors[:count], generator)
    return list(itertools.islice(every, products))[-1]


def checked(
    a: oracles.Symmetric,
    count: int,
    seed: int = 0,
    order: str = "magnitude",
    slack: float = 0.0,
    probability: float = 0.01,
    noise: float = 1e-15,
) -> tuple[Check, Ritz]:
    """Check the first eigenpairs."""
    vectors = a.vectors[:count]
    return check_complement(
        a.operator(),
        Ritz(a.values[:count], vectors, vectors @ a.matrix),
        order,
        slack=slack,
        noise=noise,
        probability=probability,
        generator=torch.Generator().manual_seed(seed),
    )


def by_polynomials(section: Tensor, coupling: float, threshold: float) -> float:
    """Return the bound as its authors write it, by the three-term recurrence of the Lanczos polynomials."""
    alphas, betas = section.diagonal().tolist(), [*section.diagonal(1).tolist(), coupling]
    before, now, total = 0.0, 1.0, 1.0
    for place, (alpha, beta) in enumerate(zip(alphas, betas, strict=True)):
        drawn = betas[place - 1] * before if place else 0.0
        before, now = now, ((threshold - alpha) * now - drawn) / beta
        total += now**2
    return 1 / math.sqrt(total)


@given(seed=st.integers(0, 1000), products=st.integers(1, 12), threshold=st.floats(1.01, 3.0))
def test_bound_is_that_of_the_lanczos_polynomials(seed: int, products: int, threshold: float) -> None:
    search = searched(oracles.symmetric(oracles.bulk(1.0, 0.9, dim=40), seed), 0, products, seed)

    found = bound_start_component(search.basis.projected, search.coupling, threshold)

    wanted = by_polynomials(search.basis.projected, search.coupling, threshold)
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-13)


@given(
    seed=st.integers(0, 1000),
    products=st.integers(1, 12),
    value=st.floats(0.8, 3.0),
    sign=st.sampled_from([1, -1]),
)
def test_the_bound_holds_for_every_start(seed: int, products: int, value: float, sign: int) -> None:
    """At each threshold up to its eigenvalue, and exactly: no probability is in this."""
    a = oracles.symmetric([sign * value, *oracles.bulk(0.7, 0.6, dim=40)], seed)
    search = searched(a, 0, products, seed)
    held = abs(float(search.basis.rows[0] @ a.vectors[0]))

    for share in (1.0, 0.97, 0.8):
        bound = bound_start_component(
            sign * search.basis.projected, search.coupling, share * value, rounding=1e-14
        )
        assert held <= bound * (1 + 1e-9)


@given(st.integers(0, 1000))
def test_the_bound_holds_where_products_are_rounded_to_float32(seed: int) -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.3, 0.28, dim=60, width=0.2), seed)
    generator = torch.Generator().manual_seed(seed)
    every = search_complement(a.operator(torch.float32), torch.empty(0, 60), generator)
    rounding = 1e-6  # ten times the last digit of float32

    for search in itertools.islice(every, 12):
        held = abs(float(search.basis.rows[0].double() @ a.vectors[0]))
        assert held <= bound_start_component(search.basis.projected, search.coupling, 1.0, rounding) * (
            1 + 1e-6
        )


def test_a_value_beyond_the_threshold_gives_bound_one() -> None:
    section = torch.diag(torch.tensor([0.5, 1.0], dtype=torch.float64))

    for coupling in (0.1, 0.0):
        assert bound_start_component(section, coupling, 0.9) == 1.0
    assert bound_start_component(section, 0.1, 1.0) == 1.0  # where it may be a shade below


def test_an_exhausted_section_has_bound_zero() -> None:
    section = torch.diag(torch.tensor([0.5, 1.0], dtype=torch.float64))

    assert bound_start_component(section, 0.0, 1.0) == 0.0


def test_a_threshold_within_rounding_of_a_value_is_no_error() -> None:
    section = torch.tensor([[-0.25, 0.5], [0.5, 0.0]], dtype=torch.float64)

    assert 0 <= bound_start_component(section, 0.1, 0.3903882032022077) <= 1


def test_the_probability_accounts_for_rounding() -> None:
    """A start that holds nothing of a vector gets a part of it by errors of the products alone."""
    a = oracles.symmetric([1.0, 0.9, 0.5, *torch.linspace(-0.1, 0.1, 60).tolist()])
    quiet, loud = (
        checked(a, 2, slack=1e-3, probability=1e-6, noise=noise)[0].probability for noise in (1e-12, 1e-3)
    )

    assert quiet <= 1e-6
    assert loud > 1e-3 * math.sqrt(2 * 61 / math.pi)  # at a distance of the threshold that is below 1


def test_the_probability_holds_over_many_starts() -> None:
    """One value lies beyond what is known; how often is it not seen, against the probability stated then."""
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, 0.7, dim=80, width=0.6))
    threshold, starts = 0.65, 1000
    stated: list[float] = []
    for seed in range(starts):
        check = searched(a, 2, 2 + seed % 8, seed).check("magnitude", threshold)
        stated.append(check.probability if abs(check.found) < threshold else 1.0)

    # A p-value: where a value is missed, one of at most p is stated in a share of at most p of the starts.
    for p in (0.5, 0.2, 0.05, 0.01):
        share = sum(s <= p for s in stated) / starts
        assert share <= p + 3 * math.sqrt(p * (1 - p) / starts)
    assert sum(s <= 0.5 for s in stated) > 0.05 * starts  # elsewise nothing was tried
    assert sum(s == 1.0 for s in stated) > starts / 4  # many starts see it


@pytest.mark.slow
def test_a_search_until_a_probability_is_wrong_no_more_often() -> None:
    """The number of products is chosen by what is seen, which the probability allows for."""
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, 0.86, dim=30, width=0.2))
    p, starts = 0.3, 4000

    wrong = 0
    for seed in range(starts):
        check, _ = checked(a, 2, seed, slack=-0.05, probability=p)  # the threshold is 0.85
        wrong += abs(check.found) < 0.85

    assert 0 < wrong <= starts * (p + 3 * math.sqrt(p * (1 - p) / starts))


def test_the_next_value_is_found() -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, -0.8))

    check, outermost = checked(a, 2, slack=1e-9, probability=1e-6)

    assert check.found == pytest.approx(-0.8, abs=1e-3)
    assert abs(float(outermost.vectors[0] @ a.vectors[2])) > 0.99


def test_a_search_ends_as_soon_as_it_finds_a_missed_value() -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, -0.8))
    vectors = a.vectors[[0, 3]]

    check, outermost = check_complement(
        a.operator(),
        Ritz(a.values[[0, 3]], vectors, vectors @ a.matrix),
        "magnitude",
        slack=0.0,
        noise=1e-15,
        probability=1e-12,
        generator=torch.Generator().manual_seed(0),
    )

    assert check.products < 10
    assert abs(check.found) > 0.5
    assert float(outermost.values[0]) == pytest.approx(check.found)


def test_smaller_gaps_take_more_products() -> None:
    apart, near, equal = (
        checked(oracles.symmetric(oracles.bulk(1.0, 0.9, third, dim=300, width=0.1)), 2, slack=1e-3)[0]
        for third in (0.2, 0.8, 0.9)
    )

    assert apart.products < near.products < equal.products
    assert max(apart.probability, near.probability, equal.probability) <= 0.01


def test_an_undecided_search_stops_at_the_product_limit() -> None:
    """The third value is as near to the second as to the fourth."""
    a = oracles.symmetric(torch.linspace(0.5, 1.0, 300))

    check, _ = checked(a, 2, probability=1e-6)

    assert check.products == MAX_CHECK_PRODUCTS
    assert check.probability > 1e-6


@given(st.floats(1e-6, 0.5), st.integers(0, 100))
def test_a_search_reaches_the_probability_that_it_was_given(probability: float, seed: int) -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, 0.6, dim=100))

    assert checked(a, 2, seed, probability=probability)[0].probability <= probability


def test_a_search_of_the_whole_complement_has_probability_zero() -> None:
    a = oracles.symmetric([3.0, -2.0, 1.0, 0.5, 0.1])

    assert checked(a, 2, probability=0.0)[0].probability == 0.0
    assert checked(a, 5 - 1)[0].probability == 0.0


def test_an_empty_complement_has_probability_zero() -> None:
    a = oracles.symmetric([3.0, -2.0])

    check, outermost = checked(a, 2)

    assert (check.products, check.probability) == (0, 0.0)
    assert not len(outermost.values)


def test_an_exhausted_krylov_space_gives_a_tiny_probability() -> None:
    """Two distinct values outside: two products see all that a start sees, and it sees all but surely."""
    a = oracles.symmetric([1.0, 0.9, *([0.5] * 40), *([0.0] * 40)])

    check, _ = checked(a, 2, probability=0.0)

    assert check.products == 2
    assert check.probability < 1e-9


def test_a_multiple_value_at_the_edge_counts_as_missed_only_beyond_the_tolerance() -> None:
    a = oracles.symmetric([1.0] * 50)

    assert checked(a, 2, slack=1e-4)[0].probability < 1e-6


@pytest.mark.parametrize("order", ["magnitude", "largest", "smallest"])
def test_found_is_furthest_out_in_the_order(order: str) -> None:
    a = oracles.symmetric([-3.0, 2.0, 1.0, -0.5])

    check = searched(a, 0, 4).check(order, 5.0)

    assert check.found == pytest.approx({"magnitude": -3.0, "largest": 2.0, "smallest": -3.0}[order])


@pytest.mark.parametrize(("order", "sure"), [("magnitude", False), ("largest", True), ("smallest", False)])
def test_only_the_side_of_the_order_counts(order: str, sure: bool) -> None:
    """Of values from -3 to 0.5 none is beyond 2 but on the one side."""
    a = oracles.symmetric([-3.0, *torch.linspace(-1, 0.5, 50).tolist()])

    check = searched(a, 0, 12).check(order, 2.0)

    assert (check.probability < 0.01) == sure


def test_a_search_in_an_empty_complement_yields_nothing() -> None:
    nothing = Operator(lambda rows: rows, 3, torch.float64, torch.device("cpu"), "identity")
    known = torch.eye(3, dtype=torch.float64)

    assert list(search_complement(nothing, known, torch.Generator().manual_seed(0))) == []
