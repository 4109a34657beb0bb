"""The ratio of two Ritz values: its interval and the first verdict that applies."""

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optstudy.curvature import Estimate, Ratio, ratio_interval
from optstudy.curvature.ratio import block_norm

size = st.floats(1e-6, 1e6)


def test_interval_is_that_of_its_formulas() -> None:
    ratio = ratio_interval(-3.0, -2.0, delta=0.5)

    assert (ratio.value, ratio.low, ratio.high) == (1.5, 3.0 / 2.5, 3.5 / 2.0)


def test_interval_never_starts_below_one() -> None:
    assert ratio_interval(1.0, 1.0, delta=0.1).low == 1.0


@pytest.mark.parametrize(
    ("first", "second", "delta", "noise", "verdict"),
    [
        (2.0, 1.0, 1e-3, 0.0, "separated"),
        (-2.0, -1.0, 1e-3, 0.0, "separated"),
        (2.0, -1.0, 1e-3, 0.0, "indefinite"),
        (1.0, -1.0, 0.0, 0.0, "indefinite"),  # before "degenerate"
        (2.0, -1.0, 1e-3, 0.2, "unresolved"),  # noise comes before everything
        (2.0, 1.0, 1e-3, 0.1, "unresolved"),  # ten times the noise is still noise
        (2.0, 1.0, 1e-3, 0.0999, "separated"),
        (1.009, 1.0, 1e-4, 0.0, "degenerate"),  # before "separated", though its low is above 1
        (1.0, 1.0, 0.0, 0.0, "degenerate"),
        (1.01, 1.0, 0.0, 0.0, "separated"),  # exactly 1.01 is not below it
        (1.02, 1.0, 0.1, 0.0, "unresolved"),  # too wide to tell
        (1.1, 1.0, 0.1, 0.0, "unresolved"),  # low is 1, and so may be the ratio
    ],
)
def test_verdict_is_the_first_that_applies(
    first: float, second: float, delta: float, noise: float, verdict: str
) -> None:
    assert ratio_interval(first, second, delta, noise).verdict == verdict


def test_second_value_of_zero_gives_an_infinite_ratio_that_is_unresolved() -> None:
    ratio = ratio_interval(2.0, 0.0, delta=0.1)

    assert (ratio.value, ratio.low, ratio.high) == (math.inf, 20.0, math.inf)
    assert ratio.verdict == "unresolved"


def test_two_zeros_are_unresolved() -> None:
    ratio = ratio_interval(0.0, 0.0, delta=0.0)

    assert (ratio.low, ratio.high, ratio.verdict) == (1.0, math.inf, "unresolved")


@given(second=size, factor=st.floats(1, 1e3), delta=st.floats(0, 1e6), scale=st.floats(1e-6, 1e6))
def test_interval_holds_its_value_and_does_not_depend_on_the_scale(
    second: float, factor: float, delta: float, scale: float
) -> None:
    ratio = ratio_interval(second * factor, second, delta)
    scaled = ratio_interval(scale * second * factor, scale * second, scale * delta)

    assert 1 <= ratio.low <= ratio.value * (1 + 1e-15)  # a quotient rounds once
    assert ratio.value <= ratio.high
    assert scaled.low == pytest.approx(ratio.low, rel=1e-12)
    assert scaled.high == pytest.approx(ratio.high, rel=1e-12)


@given(
    spectrum=st.lists(st.floats(-1, 1), min_size=4, max_size=8),
    angle=st.floats(0, 0.3),
    seed=st.integers(0, 2**31),
)
def test_interval_contains_the_truth_for_any_two_rows_near_the_first_eigenvectors(
    spectrum: list[float], angle: float, seed: int
) -> None:
    """By the theorem alone: the two values are those that the block found, whatever its residual."""
    a = oracles.symmetric(spectrum, seed)
    generator = torch.Generator().manual_seed(seed)
    rows = a.vectors[:2] + angle * torch.randn(2, len(spectrum), generator=generator, dtype=torch.float64)
    rows = torch.linalg.qr(rows.T).Q.T
    ritz, mix = torch.linalg.eigh(rows @ a.matrix @ rows.T)
    order = ritz.abs().argsort(descending=True)
    ritz, vectors = ritz[order], (mix.T @ rows)[order]
    delta = block_norm(vectors @ a.matrix - ritz.unsqueeze(1) * vectors)
    apart = (a.values[:2].sort().values - ritz.sort().values).abs().max()
    matched = float(apart) <= delta + 1e-12  # elsewise the block is near other pairs: a missed value
    second = abs(float(a.values[1]))

    ratio = ratio_interval(float(ritz[0]), float(ritz[1]), delta)

    if matched and second > 1e-6:  # of which the rounding of the matrix, 1e-15, is 1e-9
        truth = abs(float(a.values[0])) / second
        assert ratio.low <= truth * (1 + 1e-9)
        assert truth <= ratio.high * (1 + 1e-9)


def test_block_norm_is_the_largest_singular_value() -> None:
    assert block_norm(torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])) == pytest.approx(4.0)
    assert block_norm(torch.empty(0, 3)) == 0.0


def test_ratios_and_estimates_are_shown_in_four_digits() -> None:
    assert repr(Ratio(5 / 3, 1.25, math.inf, "separated")) == (
        "Ratio(value=1.667, low=1.25, high=inf, verdict='separated')"
    )
    assert (
        repr(Estimate(1 / 3, -1.0, 2 / 3, 90)) == "Estimate(value=0.3333, low=-1, high=0.6667, products=90)"
    )
