"""Two series of numbers are judged by their bits, then by the tolerance, and where they part is named."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from optstudy.posthoc.reproduce.compare import Series, compare_metric

by_epoch = arrays.arrays(np.float64, 5)
finite = arrays.arrays(np.float64, 5, elements=st.floats(-1e300, 1e300))


def epochs(*values: float) -> Series:
    return Series(np.array(values), tuple(range(1, len(values) + 1)), "epoch")


@given(values=by_epoch)
def test_a_series_is_identical_to_itself_whatever_is_in_it(values: Any) -> None:
    found = compare_metric("loss", epochs(*values), epochs(*values), tolerance=0.0)

    assert (found.judgement, found.difference, found.parted) == ("identical", 0.0, "")


@given(values=finite, place=st.integers(0, 4))
def test_the_next_float_is_found_and_its_epoch_named(values: Any, place: int) -> None:
    other = values.copy()
    other[place] = np.nextafter(other[place], math.inf)

    found = compare_metric("loss", epochs(*values), epochs(*other), tolerance=0.0)

    assert found.judgement == "different"
    assert (found.parted, found.at) == (f"epoch {place + 1}", place + 1)


@pytest.mark.parametrize(("factor", "judgement"), [(1.009, "within tolerance"), (1.011, "different")])
def test_tolerance_is_a_fraction_of_each_value(factor: float, judgement: str) -> None:
    found = compare_metric("loss", epochs(5.0, 1e-6), epochs(5.0, 1e-6 * factor), tolerance=0.01)

    assert found.judgement == judgement
    assert found.difference == pytest.approx(1 - 1 / factor)


def test_in_an_array_of_the_end_small_entries_are_measured_by_the_largest() -> None:
    there, here = Series(np.array([[4.0, 0.0]])), Series(np.array([[4.0, 0.02]]))

    found = compare_metric("weights", there, here, tolerance=0.01)

    assert (found.judgement, found.difference) == ("within tolerance", 0.005)
    assert (found.parted, found.there, found.here) == ("[0, 1]", "0.0", "0.02")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_no_longer_finite_is_within_no_tolerance(value: float) -> None:
    found = compare_metric("loss", epochs(1.0, 2.0), epochs(1.0, value), tolerance=0.9)

    assert (found.judgement, found.difference, found.parted) == ("different", math.inf, "epoch 2")


def test_of_classes_and_words_the_share_that_differs_counts() -> None:
    there, here = Series(np.array([1, 2, 3, 4])), Series(np.array([1, 2, 9, 4]))
    words = Series(np.array(["separated", "degenerate"]), (8, 9), "step")
    others = Series(np.array(["separated", "separated"]), (8, 9), "step")

    assert compare_metric("predictions", there, here, 0.3).judgement == "within tolerance"
    assert compare_metric("predictions", there, here, 0.2).difference == 0.25
    assert compare_metric("verdict", words, others, 0.2).parted == "step 9"


def test_a_run_that_ended_at_another_epoch_differs_from_there_on() -> None:
    found = compare_metric("loss", epochs(1.0, 2.0, 3.0), epochs(1.0, 2.0), tolerance=0.9)

    assert (found.judgement, found.parted) == ("different", "epoch 3")
    assert (found.there, found.here) == ("3 epochs", "2 epochs")


def test_minus_zero_is_not_zero() -> None:
    assert compare_metric("loss", epochs(0.0), epochs(-0.0), tolerance=0.0).judgement == "within tolerance"


def test_what_was_not_made_again_differs() -> None:
    found = compare_metric("weights", Series(np.zeros((2, 3))), Series(np.zeros(0)), tolerance=0.9)

    assert (found.judgement, found.there, found.here) == ("different", "shape (2, 3)", "shape (0,)")
