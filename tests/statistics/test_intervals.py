"""Intervals over seeds."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optstudy.statistics import Interval, mean_interval

# Two-sided quantiles of Student's t by degrees of freedom, from printed tables (Fisher and Yates, 1938).
T_95 = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262, 29: 2.045}
T_99 = {1: 63.657, 2: 9.925, 4: 4.604, 9: 3.250, 29: 2.756}

finite = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(("confidence", "table"), [(0.95, T_95), (0.99, T_99)])
@pytest.mark.parametrize("degrees", T_95)
def test_half_width_is_the_tabulated_quantile_times_the_standard_error(
    confidence: float, table: dict[int, float], degrees: int
) -> None:
    values = np.random.default_rng(degrees).normal(0.99, 0.001, degrees + 1)

    interval = mean_interval(values, confidence)

    standard_error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert interval.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert interval.half_width == pytest.approx(table[degrees] * standard_error, rel=5e-4)


def test_interval_of_one_two_three_in_closed_form() -> None:
    # With two degrees of freedom the quantile is (2p - 1) sqrt(2 / (4 p (1 - p))), here with p = 0.975.
    quantile = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))

    interval = mean_interval([1, 2, 3])

    assert interval.mean == 2
    assert interval.low == pytest.approx(2 - quantile / math.sqrt(3), rel=1e-12)
    assert interval.high == pytest.approx(2 + quantile / math.sqrt(3), rel=1e-12)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_interval_covers_the_true_mean_as_often_as_it_says(seeds: int) -> None:
    """Of 4,000 samples of a normal population 95 % should be covered; 1.5 points are over four deviations."""
    samples = np.random.default_rng(seeds).normal(0.0, 1.0, (4000, seeds))

    intervals = [mean_interval(sample) for sample in samples]

    covered = [i.low is not None and i.high is not None and i.low <= 0 <= i.high for i in intervals]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_one_value_has_a_mean_and_no_interval() -> None:
    interval = mean_interval([0.9893])

    assert interval == Interval(0.9893, None, None)
    assert interval.half_width is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert mean_interval([0.1, 0.1, 0.1]) == Interval(0.1, 0.1, 0.1)


@given(st.lists(finite, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_order_of_the_values_does_not_matter(values: list[float], shuffle: random.Random) -> None:
    shuffled = shuffle.sample(values, len(values))

    assert mean_interval(shuffled) == mean_interval(values)


@given(st.lists(finite, min_size=2, max_size=12))
def test_more_confidence_needs_a_wider_interval(values: list[float]) -> None:
    wide, narrow = mean_interval(values, 0.99), mean_interval(values, 0.9)

    assert wide.half_width is not None
    assert narrow.half_width is not None
    assert wide.half_width >= narrow.half_width


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="not all finite"):
        mean_interval([0.98, value])


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, -1.0])
def test_confidence_outside_zero_to_one_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="probability between 0 and 1"):
        mean_interval([0.98, 0.99], confidence)
