"""The search for missed values: its bound against the exact part of the start, and how often it fails."""

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from optstudy.curvature import Check
from optstudy.curvature.completeness import (
    MAX_CHECK_PRODUCTS,
    Section,
    bound_start_component,
    check_steps,
)
from optstudy.curvature.lanczos import Lanczos
from optstudy.curvature.progress import result_of
from optstudy.curvature.ritz import Ritz


def exact(a: oracles.Symmetric, count: int) -> Ritz:
    """Return the first eigenpairs."""
    vectors = a.vectors[:count]
    return Ritz(a.values[:count], vectors, vectors @ a.matrix)


def begun(a: oracles.Symmetric, known: Ritz, seed: int = 0, dtype: torch.dtype = torch.float64) -> Lanczos:
    """Return an iteration from a random start in the complement of some pairs."""
    memory = len(known.values) + MAX_CHECK_PRODUCTS + 2
    return Lanczos(a.operator(dtype), memory, torch.Generator().manual_seed(seed), known)


def searched(a: oracles.Symmetric, count: int, products: int, seed: int = 0) -> Lanczos:
    """Return an iteration outside of the first eigenvectors after some products."""
    lanczos = begun(a, exact(a, count), seed)
    for _ in range(products):
        lanczos.advance()
    return lanczos


def checked(
    a: oracles.Symmetric,
    known: Ritz | int,
    seed: int = 0,
    order: str = "magnitude",
    slack: float = 0.0,
    probability: float = 0.01,
    noise: float = 1e-15,
    limit: int = MAX_CHECK_PRODUCTS,
) -> tuple[Check, bool, Lanczos]:
    """Check some pairs, or the first; return the check, whether a value was missed, and the iteration."""
    pairs = exact(a, known) if isinstance(known, int) else known
    lanczos = begun(a, pairs, seed)
    check, missed = result_of(
        check_steps(lanczos, pairs, order, slack=slack, noise=noise, probability=probability, limit=limit)
    )
    return check, missed, lanczos


def decomposed(section: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues of a section and its eigenvectors as columns."""
    values, vectors = torch.linalg.eigh(section)
    return values, vectors


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
    lanczos = searched(oracles.symmetric(oracles.bulk(1.0, 0.9, dim=40), seed), 0, products, seed)

    found = bound_start_component(*decomposed(lanczos.krylov), lanczos.coupling, threshold)

    wanted = by_polynomials(lanczos.krylov, lanczos.coupling, threshold)
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
    lanczos = searched(a, 0, products, seed)
    values, vectors = torch.linalg.eigh(lanczos.krylov)
    held = abs(float(lanczos.rows[0] @ a.vectors[0]))

    for share in (1.0, 0.97, 0.8):
        bound = bound_start_component(sign * values, vectors, lanczos.coupling, share * value, noise=1e-14)
        assert held <= bound * (1 + 1e-9)


@given(st.integers(0, 1000))
def test_the_bound_holds_where_products_are_rounded_to_float32(seed: int) -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.3, 0.28, dim=60, width=0.2), seed)
    lanczos = begun(a, exact(a, 0), seed, torch.float32)
    rounding = 1e-6  # ten times the last digit of float32

    for _ in range(12):
        lanczos.advance()
        held = abs(float(lanczos.rows[0].double() @ a.vectors[0]))
        section = decomposed(lanczos.krylov)
        assert held <= bound_start_component(*section, lanczos.coupling, 1.0, rounding) * (1 + 1e-6)


def test_a_value_beyond_the_threshold_gives_bound_one() -> None:
    section = torch.diag(torch.tensor([0.5, 1.0], dtype=torch.float64))

    for coupling in (0.1, 0.0):
        assert bound_start_component(*decomposed(section), coupling, 0.9) == 1.0
    assert bound_start_component(*decomposed(section), 0.1, 1.0) == 1.0  # where it may be a shade below


def test_an_exhausted_section_has_bound_zero() -> None:
    section = torch.diag(torch.tensor([0.5, 1.0], dtype=torch.float64))

    assert bound_start_component(*decomposed(section), 0.0, 1.0) == 0.0


def test_a_threshold_within_rounding_of_a_value_is_no_error() -> None:
    section = torch.tensor([[-0.25, 0.5], [0.5, 0.0]], dtype=torch.float64)

    assert 0 <= bound_start_component(*decomposed(section), 0.1, 0.3903882032022077) <= 1


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
        section = Section.of(searched(a, 2, 2 + seed % 8, seed), 0.0)
        stated.append(section.probability(threshold) if float(section.values.max()) < threshold else 1.0)

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
        check, _, _ = checked(a, 2, seed, slack=-0.05, probability=p)  # the threshold is 0.85
        wrong += abs(check.found) < 0.85

    assert 0 < wrong <= starts * (p + 3 * math.sqrt(p * (1 - p) / starts))


def test_the_next_value_is_found() -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, -0.8))

    check, missed, lanczos = checked(a, 2, slack=1e-9, probability=1e-6)

    assert not missed
    assert check.found == pytest.approx(-0.8, abs=1e-3)
    assert abs(float(lanczos.ritz("magnitude", 3).vectors[2] @ a.vectors[2])) > 0.99


def test_a_search_ends_as_soon_as_it_finds_a_missed_value() -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, -0.8))
    vectors = a.vectors[[0, 3]]

    check, missed, lanczos = checked(
        a, Ritz(a.values[[0, 3]], vectors, vectors @ a.matrix), probability=1e-12
    )

    assert missed
    assert check.products < 10
    assert abs(check.found) > 0.5
    assert float(lanczos.ritz("magnitude", 2).values[1]) == pytest.approx(check.found)


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

    check, _, _ = checked(a, 2, probability=1e-6)

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

    check, missed, _ = checked(a, 2)

    assert (check.products, check.probability) == (0, 0.0)
    assert math.isnan(check.found)
    assert not missed


def test_an_exhausted_krylov_space_gives_a_tiny_probability() -> None:
    """Two distinct values outside: two products see all that a start sees, and it sees all but surely."""
    a = oracles.symmetric([1.0, 0.9, *([0.5] * 40), *([0.0] * 40)])

    check, _, _ = checked(a, 2, probability=0.0)

    assert check.products == 2
    assert check.probability < 1e-9


def test_a_multiple_value_at_the_edge_counts_as_missed_only_beyond_the_tolerance() -> None:
    a = oracles.symmetric([1.0] * 50)

    assert checked(a, 2, slack=1e-4)[0].probability < 1e-6


def beyond(order: str, value: float, others: list[float]) -> tuple[oracles.Symmetric, Ritz]:
    """Return a matrix with one known pair, of this value on the side of the order, and others."""
    last = -value if order == "smallest" else value
    values = torch.tensor([last, *others], dtype=torch.float64)
    vectors = oracles.symmetric(values).vectors
    matrix = vectors.T @ torch.diag(values) @ vectors
    a = oracles.Symmetric((matrix + matrix.T) / 2, values, vectors)
    return a, exact(a, 1)


@pytest.mark.parametrize("order", ["magnitude", "largest", "smallest"])
def test_found_is_furthest_out_in_the_order(order: str) -> None:
    a, known = beyond(order, 5.0, [-3.0, 2.0, 1.0, -0.5])

    check, missed, _ = checked(a, known, order=order, probability=0.0)

    assert not missed
    assert check.found == pytest.approx({"magnitude": -3.0, "largest": 2.0, "smallest": -3.0}[order])


@pytest.mark.parametrize(("order", "sure"), [("magnitude", False), ("largest", True), ("smallest", False)])
def test_only_the_side_of_the_order_counts(order: str, sure: bool) -> None:
    """Of values from -3 to 0.5 none is beyond 2 but on the one side."""
    a, known = beyond(order, 2.0, [-3.0, *torch.linspace(-1, 0.5, 50).tolist()])

    check, missed, _ = checked(a, known, order=order, limit=12)

    assert (check.probability < 0.01) == sure
    assert missed != sure


def test_a_search_in_an_empty_complement_takes_no_product() -> None:
    a = oracles.symmetric([3.0, 2.0, 1.0])
    lanczos = begun(a, exact(a, 3))

    assert lanczos.exhausted
    assert not lanczos.begin_again()


@given(
    seed=st.integers(0, 1000),
    products=st.integers(1, 12),
    probability=st.floats(1e-6, 0.5),
    side=st.sampled_from([1, -1]),
    noise=st.sampled_from([0.0, 1e-12, 1e-7]),
)
def test_a_bound_is_the_threshold_at_which_the_probability_is_the_given_one(
    seed: int, products: int, probability: float, side: int, noise: float
) -> None:
    section = Section.of(searched(oracles.symmetric(oracles.bulk(1.0, 0.9), seed), 1, products, seed), noise)

    bound, outermost = section.bound(probability, side), float((side * section.values).max())

    assert bound >= outermost
    assert section.probability(bound, side) <= probability
    if bound > outermost + 1e-9:  # at the outermost value itself, the probability may jump to 1
        below = bound - 1e-6 * (bound - outermost)
        assert section.probability(below, side) == pytest.approx(probability, rel=1e-3)


def test_bounds_fail_no_more_often_than_their_probability() -> None:
    """Each side alone at half the probability, and both together at all of it."""
    a = oracles.symmetric(oracles.bulk(1.0, 0.72, -0.7, dim=40, width=0.1))
    p, starts = 0.4, 300

    above = below = either = 0
    for seed in range(starts):
        section = Section.of(searched(a, 1, 3, seed), 0.0)
        over, under = section.bound(p / 2, 1) < 0.72, section.bound(p / 2, -1) < 0.7
        above, below, either = above + over, below + under, either + (over or under)

    for wrong, rate in ((above, p / 2), (below, p / 2), (either, p)):
        assert 0 < wrong <= starts * (rate + 3 * math.sqrt(rate * (1 - rate) / starts))


def test_a_check_bounds_all_other_values_on_both_sides() -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 0.9, -0.8, 0.7, dim=100))

    for order in ("magnitude", "largest"):
        check, _, _ = checked(a, 2, order=order, probability=1e-4)
        assert 0.7 <= check.above <= 0.9
        assert 0.8 <= check.below <= (0.9 if order == "magnitude" else 2.0)


def test_a_whole_complement_gives_its_exact_ends() -> None:
    a = oracles.symmetric([3.0, -2.0, 1.0, 0.5, -0.1])

    check, missed, _ = checked(a, 2, probability=1e-300)

    assert (check.probability, missed) == (0.0, False)
    assert (check.above, check.below) == pytest.approx((1.0, 0.1), abs=1e-12)


def test_a_check_without_products_bounds_nothing() -> None:
    check, missed, _ = checked(oracles.symmetric(oracles.bulk(1.0, 0.9)), 2, limit=0)

    assert (check.probability, check.above, check.below, missed) == (1.0, math.inf, math.inf, False)
