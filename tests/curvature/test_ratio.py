"""The ratio of two Ritz values: its interval, the first verdict that applies, and its sign."""

import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optstudy.curvature import Estimate, Ratio, ratio_interval
from optstudy.curvature.rows import block_norm

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
        (2.0, -1.0, 1e-3, 0.0, "separated"),
        (1.0, -1.0, 0.0, 0.0, "degenerate"),
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


@pytest.mark.parametrize(
    ("first", "second", "others", "sign"),
    [
        (2.0, 1.0, (0.8, math.inf), "same"),
        (-2.0, -1.0, (math.inf, 0.8), "same"),
        (2.0, 1.0, (0.9, 0.0), "open"),  # 0.9 + 0.1 may be a negative value as large as the second
        (2.0, -1.0, (math.inf, 0.8), "opposite"),  # other negative values change nothing
        (-2.0, 1.0, (0.8, math.inf), "opposite"),
        (2.0, -1.0, (0.0, 0.9), "open"),
        (1.05, -1.0, (0.8, 0.8), "opposite"),  # which of the two is larger is open
        (1.05, -1.0, (0.95, 0.8), "open"),  # both of the largest may be negative
        (2.0, 0.0, (0.0, 0.0), "open"),
    ],
)
def test_sign_is_told_only_if_it_is_certain(
    first: float, second: float, others: tuple[float, float], sign: str
) -> None:
    assert ratio_interval(first, second, delta=0.1, others=others).sign == sign


def test_an_open_sign_does_not_hide_separated() -> None:
    ratio = ratio_interval(2.0, 1.0, delta=1e-3, others=(math.inf, math.inf))

    assert (ratio.verdict, ratio.sign) == ("separated", "open")


def test_a_value_that_may_have_been_missed_widens_the_interval() -> None:
    ratio = ratio_interval(3.0, 1.0, delta=0.1, noise=0.05, beyond=2.0)

    assert (ratio.low, ratio.high) == (2.95 / 2.15, 3.15 / 0.95)
    assert ratio_interval(3.0, 1.0, delta=0.1, beyond=math.inf).high == math.inf
    assert ratio_interval(3.0, 1.0, delta=0.1, beyond=0.5) == ratio_interval(3.0, 1.0, delta=0.1)


def test_a_second_value_below_the_noise_leaves_everything_open() -> None:
    ratio = ratio_interval(1.0, 0.1, delta=0.0, noise=0.2)

    assert (ratio.high, ratio.verdict, ratio.sign) == (math.inf, "unresolved", "open")


@given(
    spectrum=st.lists(st.floats(-1, 1), min_size=3, max_size=8)
    | st.sampled_from(
        [
            [1.0, 0.5, -0.49997, 0.49994, 0.3],
            [1.0, 6e-5, -5.9e-5, 1e-5],
            [1.19, 0.00757, -0.00747, 0.001],
            [1.0, -1.0, 0.5],
        ]
    ),
    angle=st.sampled_from([0.0, 1e-6, 1e-3, 0.03, 0.3]),
    noise=st.sampled_from([0.0, 1e-9, 1e-6, 1e-3]),
    rows=st.sampled_from([(0, 1), (0, 2), (1, 2)]),
    seed=st.integers(0, 2**31),
)
def test_truth_is_in_the_interval_and_no_sign_is_wrong(
    spectrum: list[float], angle: float, noise: float, rows: tuple[int, int], seed: int
) -> None:
    """For any two orthonormal rows, also near the wrong eigenvectors, if what is beyond them is known."""
    a, found = oracles.symmetric(spectrum, seed), oracles.symmetric([noise] * len(spectrum), seed + 1)
    measured = a.matrix + found.matrix  # what a product computes
    generator = torch.Generator().manual_seed(seed)
    start = a.vectors[list(rows)]
    start = start + angle * torch.randn(start.shape, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(start.T, mode="complete").Q.T
    ritz, mix = torch.linalg.eigh(basis[:2] @ measured @ basis[:2].T)
    order = ritz.abs().argsort(descending=True)
    ritz, vectors = ritz[order], (mix.T @ basis[:2])[order]
    beyond = torch.linalg.eigvalsh(basis[2:] @ measured @ basis[2:].T)

    ratio = ratio_interval(
        float(ritz[0]),
        float(ritz[1]),
        block_norm(vectors @ measured - ritz.unsqueeze(1) * vectors),
        noise + 1e-13,  # the rounding of the matrix
        beyond=float(beyond.abs().max()),
        others=(max(0.0, -float(beyond.min())), max(0.0, float(beyond.max()))),
    )

    first, second = a.values[:2].tolist()
    truth = abs(first / second) if second else math.inf
    assert ratio.low <= truth * (1 + 1e-12)
    assert truth <= ratio.high * (1 + 1e-12)
    assert (ratio.sign == "open") or (ratio.sign == "same") == (first * second > 0)


def test_block_norm_is_the_largest_singular_value() -> None:
    assert block_norm(torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])) == pytest.approx(4.0)
    assert block_norm(torch.empty(0, 3)) == 0.0


def test_ratios_and_estimates_are_shown_in_four_digits() -> None:
    assert repr(Ratio(5 / 3, 1.25, math.inf, "separated", "open")) == (
        "Ratio(value=1.667, low=1.25, high=inf, verdict='separated', sign='open')"
    )
    assert (
        repr(Estimate(1 / 3, -1.0, 2 / 3, 90)) == "Estimate(value=0.3333, low=-1, high=0.6667, products=90)"
    )
