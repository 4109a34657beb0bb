"""What describes and decides nothing."""

import math

import numpy as np
import pytest
from scipy import stats

from optstudy.statistics import Discordance, discordance, rank_correlation, wilson_interval


def test_mcnemar_is_a_binomial_test_of_the_images_that_differ() -> None:
    a = np.array([1] * 12 + [0] * 4 + [1] * 100 + [0] * 3, dtype=bool)
    b = np.array([0] * 12 + [1] * 4 + [1] * 100 + [0] * 3, dtype=bool)

    found = discordance(a, b)

    assert (found.first_only, found.second_only) == (12, 4)
    assert found.p == pytest.approx(stats.binomtest(4, 16).pvalue)


def test_two_equal_networks_do_not_differ() -> None:
    a = np.array([True, False, True])

    assert discordance(a, a) == Discordance(0, 0, 1.0)


def test_tau_of_a_worked_example_with_ties() -> None:
    """By hand: of 6 pairs 3 agree, 2 disagree, and 1 is tied in y."""
    found = rank_correlation([1, 2, 3, 4], [1, 3, 3, 2])

    assert found.tau == pytest.approx((3 - 2) / math.sqrt(6 * 5))
    assert found.runs == 4


def test_runs_without_a_value_are_left_out() -> None:
    found = rank_correlation([1, 2, math.nan, 3], [1, 2, 3, math.inf])

    assert found.runs == 2
    assert found.tau == 1.0


@pytest.mark.parametrize("x", [[], [1.0], [2.0, 2.0]])
def test_an_undefined_correlation_is_nan(x: list[float]) -> None:
    assert math.isnan(rank_correlation(x, x).tau)


def test_wilson_is_the_interval_of_a_published_example() -> None:
    """Newcombe (1998), table I: 81 of 263, 0.2553 to 0.3662; 0 of 20, 0 to 0.1611."""
    some, none = wilson_interval(81, 263), wilson_interval(0, 20)

    assert (some.low, some.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert (none.low, none.high) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize(("correct", "total"), [(3, 2), (-1, 2), (0, 0)])
def test_an_invalid_proportion_is_an_error(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        wilson_interval(correct, total)
