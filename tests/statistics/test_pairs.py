"""Differences between two optimizers over seeds and images, and the verdicts on all pairs of a comparison."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from optstudy.statistics import Difference, compare_pairs, difference, seeds_needed

MARGIN = 0.001
ROUNDING = 1e-12


def drawn(
    seeds: int, images: int, *, optimizers: int = 2, better: float = 0.0, own: float = 0.0, seed: int = 0
) -> NDArray[np.bool_]:
    """Correctness ``(optimizer, seed, image)``: images differ in difficulty, seeds in luck, optimizers in taste.

    Args:
        better: Added to the first optimizer's log odds.
        own: Deviation of what an optimizer alone finds hard in an image.
    """
    draw = np.random.default_rng(seed)
    odds = draw.normal(4, 2, images) + draw.normal(0, 0.1, (optimizers, seeds, 1))
    odds = odds + draw.normal(0, own, (optimizers, 1, images))
    odds[0] += better
    return draw.random(odds.shape) < 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("own", [0.0, 1.0])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_variance_is_made_of_the_mean_squares_of_a_two_way_analysis(seeds: int, own: float) -> None:
    a, b = drawn(seeds, 60, own=own, better=-2.0)
    d = a.astype(float) - b
    frame = pd.DataFrame(
        [{"seed": s, "image": i, "d": d[s, i]} for s, i in itertools.product(range(seeds), range(60))]
    )
    squares = anova_lm(ols("d ~ C(seed) + C(image)", frame).fit())["mean_sq"]

    found = difference(a, b)

    image_variance = max(0.0, squares["C(image)"] - squares["Residual"]) / seeds / 60
    assert found.mean == pytest.approx(d.mean(), abs=ROUNDING)
    assert found.seed_variance == pytest.approx(squares["C(seed)"] / 60, rel=1e-9, abs=ROUNDING)
    assert found.image_variance == pytest.approx(image_variance, rel=1e-6, abs=ROUNDING)


def test_where_images_add_nothing_it_is_the_paired_t_test_over_seeds() -> None:
    draw = np.random.default_rng(3)
    a, b = draw.random((6, 500)) < 0.9, draw.random((6, 500)) < 0.85  # every image is as hard as any other
    found = difference(a, b)
    plain = Difference(found.mean, found.seed_variance, 0.0, found.seeds, found.images)

    judged = compare_pairs({"": plain}, MARGIN)[""]

    told = stats.ttest_rel(a.mean(axis=1), b.mean(axis=1))
    interval = told.confidence_interval(0.95)
    assert judged.p == pytest.approx(told.pvalue)
    assert (judged.low, judged.high) == pytest.approx((interval.low, interval.high))


def test_the_order_of_seeds_and_images_does_not_matter() -> None:
    a, b = drawn(4, 50)
    rows, columns = np.random.default_rng(1).permutation(4), np.random.default_rng(2).permutation(50)

    one, other = difference(a, b), difference(a[rows][:, columns], b[rows][:, columns])

    assert other.mean == pytest.approx(one.mean, abs=ROUNDING)
    assert other.error == pytest.approx(one.error)


def test_swapping_a_and_b_only_changes_the_sign_of_the_difference() -> None:
    a, b = drawn(5, 2000, better=1.0, seed=4)

    judged = compare_pairs({"ab": difference(a, b), "ba": difference(b, a)}, MARGIN)

    one, other = judged["ab"], judged["ba"]
    assert (one.verdict, other.verdict) == ("better", "worse")
    assert one.p == other.p
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def pairs_of(p_values: list[float], seeds: int) -> dict[int, Difference]:
    """Differences whose tests give these."""
    error = 0.001
    return {
        i: Difference(float(stats.t.isf(p / 2, seeds - 1)) * error, error**2 * seeds, 0.0, seeds, 10_000)
        for i, p in enumerate(p_values)
    }


def test_holm_is_that_of_the_textbook() -> None:
    """Holm (1979): 0.01, 0.02, 0.03 and 0.04, times 4, 3, 2 and 1, each at least the one before."""
    judged = compare_pairs(pairs_of([0.01, 0.04, 0.03, 0.02], seeds=10), MARGIN)

    assert [judged[i].p_holm for i in range(4)] == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert [judged[i].verdict for i in range(4)] == ["better", *["no difference shown"] * 3]


@settings(max_examples=10)  # statsmodels collects garbage at each call, a third of a second beside torch
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6), st.sampled_from([2, 3, 10]))
def test_verdicts_follow_p_values_and_intervals_are_bonferronis(p_values: list[float], seeds: int) -> None:
    pairs = pairs_of(p_values, seeds)

    judged = compare_pairs(pairs, MARGIN)

    adjusted = multipletests(p_values, method="holm")[1]  # independent of our own Holm
    for i, found in judged.items():
        assert found.p == pytest.approx(p_values[i], rel=1e-6)
        assert found.p_holm == pytest.approx(adjusted[i], rel=1e-6)
        if abs(found.p * len(pairs) - 0.05) > 1e-9:  # rounding may take that to either side
            assert (found.low > 0) == (found.p < 0.05 / len(pairs))


def test_equivalence_is_claimed_only_with_enough_evidence() -> None:
    known = Difference(0.0001, 10 * 0.0002**2, 0.0, 10, 10_000)
    wide = Difference(0.0001, 10 * 0.002**2, 0.0, 10, 10_000)

    assert compare_pairs({"": known}, MARGIN)[""].verdict == "equivalent"
    assert compare_pairs({"": wide}, MARGIN)[""].verdict == "no difference shown"


def test_equivalence_is_two_one_sided_tests() -> None:
    pair = Difference(0.0003, 8 * 0.0003**2, 0.0, 8, 10_000)
    sample = 0.0003 + 0.0003 * math.sqrt(8) * stats.zscore(np.arange(8), ddof=1)
    one = float(stats.ttest_1samp(sample, -MARGIN, alternative="greater").pvalue)
    other = float(stats.ttest_1samp(sample, MARGIN, alternative="less").pvalue)

    for level in (max(one, other) * 0.99, max(one, other) * 1.01):
        expected = "equivalent" if max(one, other) < level else "no difference shown"
        assert compare_pairs({"": pair}, MARGIN, level)[""].verdict == expected


def test_one_seed_has_no_verdict_and_counts_for_no_other() -> None:
    a, b = drawn(5, 2000, better=1.0, seed=4)
    alone = {"ab": difference(a, b)}

    judged = compare_pairs(alone | {"one": difference(a[:1], b[:1])}, MARGIN)

    assert judged["one"].verdict == "too few seeds"
    assert math.isnan(judged["one"].p)
    assert judged["ab"] == compare_pairs(alone, MARGIN)["ab"]


def test_the_same_predictions_are_equivalent() -> None:
    a, _ = drawn(3, 100)

    judged = compare_pairs({"": difference(a, a)}, MARGIN)[""]

    assert (judged.p, judged.verdict) == (1.0, "equivalent")
    assert (judged.low, judged.high) == (0.0, 0.0)


def test_right_everywhere_against_wrong_everywhere_is_better() -> None:
    right = np.ones((3, 100), dtype=bool)

    assert compare_pairs({"": difference(right, ~right)}, MARGIN)[""].verdict == "better"


def test_no_pairs_have_no_verdicts() -> None:
    assert compare_pairs({}, MARGIN) == {}


@pytest.mark.parametrize("pairs", [1, 6, 28])
@pytest.mark.parametrize("seeds", [2, 3, 4, 10])
def test_the_smallest_detectable_difference_has_power_080(seeds: int, pairs: int) -> None:
    """Against the noncentral t distribution, drawn; most studies have few seeds and several pairs."""
    pair = Difference(0.0, 0.001**2, 0.0, seeds, 10_000)
    smallest = compare_pairs(dict.fromkeys(range(pairs), pair), MARGIN)[0].smallest_detectable
    draw = np.random.default_rng(0)
    samples = draw.normal(smallest, 0.001, (40_000, seeds))

    shown = np.asarray(stats.ttest_1samp(samples, 0.0, axis=1).pvalue) < 0.05 / pairs

    assert stats.binomtest(int(shown.sum()), len(shown), 0.8).pvalue > 1e-3


def test_seeds_needed_is_the_smallest_sufficient_number() -> None:
    pair = Difference(0.0, 5 * 0.0006**2, 0.0002**2, 5, 10_000)

    found = seeds_needed(pair, 0.0015, pairs=6)

    assert found is not None
    assert smallest_at(pair, found) <= 0.0015 < smallest_at(pair, found - 1)


def smallest_at(pair: Difference, seeds: int) -> float:
    again = Difference(pair.mean, pair.seed_variance, pair.image_variance, seeds, pair.images)
    return compare_pairs(dict.fromkeys(range(6), again), MARGIN)[0].smallest_detectable


def test_seeds_needed_is_none_if_the_test_set_is_too_small() -> None:
    assert seeds_needed(Difference(0.0, 0.001**2, 0.001**2, 5, 10_000), 0.001, pairs=6) is None


def bad() -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], str]]:
    yes = np.ones((3, 10), dtype=bool)
    yield yes, yes[:2], "shapes"
    yield yes[0], yes[0], "shapes"
    yield yes[:0], yes[:0], "0 seeds"
    yield yes[:, :1], yes[:, :1], "1 images"


@pytest.mark.parametrize(("a", "b", "message"), list(bad()))
def test_arrays_that_cannot_be_compared_are_an_error(
    a: NDArray[np.bool_], b: NDArray[np.bool_], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        difference(a, b)
