"""Top eigenpairs against spectra that are known: values, vectors, bounds, missed values, precision."""

import math

import oracles
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from optstudy.curvature import Eigenpairs, Operator, top_eigenpairs
from optstudy.curvature.basis import Basis
from optstudy.curvature.certify import Goal, certify
from optstudy.curvature.davidson import converge

ROUNDING = 1e-12  # of values near 1, in float64, after some hundred operations


def angle_between(pairs: Eigenpairs, a: oracles.Symmetric, i: int) -> float:
    """The angle between a vector and the eigenspace of the true value next to its own."""
    nearest = a.values[(a.values - pairs.values[i]).abs().argmin()]
    same = (a.values - nearest).abs() < 1e-9 * a.values[0].abs()
    inside = a.vectors[same] @ pairs.vectors[i].double()
    outside = pairs.vectors[i].double() - inside @ a.vectors[same]
    return math.asin(min(1.0, float(outside.norm())))


def check_bounds(pairs: Eigenpairs, a: oracles.Symmetric, k: int = 2) -> None:
    """Values within their residuals, below the truth, vectors within their angles."""
    scale = float(a.values[0].abs()) * ROUNDING
    vectors = pairs.vectors.double()
    fresh = (vectors @ a.matrix - pairs.values.unsqueeze(1) * vectors).norm(dim=1)
    rounded = 10 * torch.finfo(pairs.vectors.dtype).eps * float(a.values[0].abs())  # of the vectors
    assert torch.allclose(fresh, pairs.residuals, rtol=1e-6, atol=rounded)
    for i in range(k):
        near = (a.values - pairs.values[i]).abs().min()
        assert float(near) <= float(pairs.residuals[i]) + scale
        assert abs(float(pairs.values[i])) <= abs(float(a.values[i])) + scale
        slack = 2 * math.sqrt(ROUNDING)  # asin of a rounded sine near 1, and of nothing near 0
        assert angle_between(pairs, a, i) <= float(pairs.angles[i]) + slack


SPECTRA = {
    "gap of 3": [3.0, 1.0],
    "gap of 1.2": [1.2, 1.0],
    "gap of 1.05": [1.05, 1.0],
    "gap of 1.01": [1.01, 1.0],
    "negative": [-2.0, -1.0],
    "opposite signs": [1.5, -1.0],
    "opposite and near": [1.001, -1.0],
    "equal": [1.0, 1.0],
    "equal and opposite": [1.0, -1.0],
    "second is double": [1.2, 1.0, 1.0],
    "first is triple": [1.0, 1.0, 1.0],
    "five times": [1.0] * 5,
    "cluster": [1.0, 0.999, 0.998, 0.997],
    "cluster below": [1.3, 1.0, 0.999, 0.998, 0.997, 0.996],
}


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e7], ids=["one", "tiny", "huge"])
@pytest.mark.parametrize("top", SPECTRA.values(), ids=SPECTRA.keys())
def test_finds_the_first_values_of_a_spectrum(top: list[float], scale: float) -> None:
    a = oracles.symmetric([scale * value for value in oracles.bulk(*top, dim=120, width=0.9)], seed=1)

    pairs = top_eigenpairs(a.operator(), tolerance=1e-6)

    assert pairs.converged
    assert torch.allclose(pairs.values.abs(), a.values[:2].abs(), rtol=1e-6, atol=0)
    check_bounds(pairs, a)
    truth = abs(float(a.values[0] / a.values[1]))
    assert pairs.ratio.low <= truth * (1 + ROUNDING)
    assert truth <= pairs.ratio.high * (1 + ROUNDING)


@pytest.mark.parametrize("order", ["largest", "smallest"])
def test_order_can_be_algebraic(order: str) -> None:
    a = oracles.symmetric(oracles.bulk(-5.0, 3.0, 2.0, -4.0, 1.0))
    ends = a.values.sort(descending=order == "largest").values[:3]

    pairs = top_eigenpairs(
        a.operator(), k=3, order="largest" if order == "largest" else "smallest", tolerance=1e-8
    )

    assert torch.allclose(pairs.values, ends, atol=1e-8)
    assert pairs.order == order
    with pytest.raises(ValueError, match="by magnitude"):
        _ = pairs.ratio


def test_order_by_magnitude_keeps_signs() -> None:
    a = oracles.symmetric(oracles.bulk(-5.0, 3.0, -2.0))

    assert torch.allclose(top_eigenpairs(a.operator(), k=3).values, a.values[:3], atol=1e-3)


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 70])
def test_all_pairs_can_be_computed(dim: int) -> None:
    a = oracles.symmetric(torch.linspace(-1, 2, dim, dtype=torch.float64))

    pairs = top_eigenpairs(a.operator(), k=dim)

    assert pairs.converged
    assert torch.allclose(pairs.values.abs(), a.values.abs(), atol=1e-4 * 2)
    assert math.isnan(pairs.next_value)
    assert pairs.check is not None
    assert pairs.check.probability == 0.0


def test_one_pair_has_no_ratio() -> None:
    a = oracles.symmetric(oracles.bulk(3.0, 2.0))
    pairs = top_eigenpairs(a.operator(), k=1)

    assert float(pairs.values[0]) == pytest.approx(3.0)
    assert pairs.next_value == pytest.approx(2.0, abs=0.05)  # loosely, for the gap
    with pytest.raises(ValueError, match="k=2"):
        _ = pairs.ratio


def test_zero_operator_has_zero_values_and_an_unresolved_ratio() -> None:
    pairs = top_eigenpairs(oracles.dense(torch.zeros(30, 30)))

    assert pairs.converged
    assert pairs.values.tolist() == [0.0, 0.0]
    assert pairs.ratio.verdict == "unresolved"
    assert pairs.products < 60


def test_a_rank_of_one_leaves_zero_as_the_second() -> None:
    a = oracles.symmetric([2.0, *([0.0] * 40)])

    pairs = top_eigenpairs(a.operator())

    assert pairs.values.tolist() == pytest.approx([2.0, 0.0], abs=1e-12)
    assert pairs.converged
    assert pairs.ratio.verdict == "unresolved"


def test_stops_unconverged_when_the_products_are_spent() -> None:
    a = oracles.symmetric(torch.linspace(0.99, 1, 200, dtype=torch.float64))

    pairs = top_eigenpairs(a.operator(), max_products=10, tolerance=1e-8)

    assert not pairs.converged
    assert float(pairs.residuals.max()) > 1e-8
    assert pairs.products <= 10
    assert pairs.check is not None
    assert pairs.check.probability == 1.0
    check_bounds(pairs, a)


def test_is_unconverged_where_the_check_found_more_than_the_products_allow() -> None:
    """Pairs that are good, but not the first: the start sees a space that lacks the largest value."""
    a = oracles.symmetric(oracles.bulk(5.0, 2.0, 1.0))
    basis = Basis(a.operator(), 20)
    basis.append(a.operator(), a.vectors[1:4])
    goal = Goal(2, "magnitude", 1e-3, 0.01, max_products=5, memory=20)

    found = certify(a.operator(), goal, torch.Generator().manual_seed(0), basis)

    assert found.check is not None
    assert found.check.found > 1.0
    assert found.missed
    assert not found.converged
    assert found.check.probability == 1.0
    assert found.products == 5


def converged_from(operator: Operator, start: torch.Tensor, tolerance: float) -> Basis:
    """Return a basis whose first two pairs have converged, grown from a start."""
    basis, generator = Basis(operator, 40), torch.Generator().manual_seed(1)
    converge(
        operator,
        basis,
        start,
        order="magnitude",
        k=2,
        tolerance=tolerance,
        limit=100,
        generator=generator,
    )
    return basis


def test_finds_a_value_whose_vector_the_start_lacks() -> None:
    """In exact arithmetic the Krylov space of such a start never meets it, whatever converges inside."""
    values = torch.as_tensor(oracles.bulk(4.0, 2.0, 1.0), dtype=torch.float64)
    operator = oracles.dense(torch.diag(values))
    start = torch.randn(3, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start[:, 0] = 0.0  # the first eigenvector is the first unit vector, so products stay zero there
    goal = Goal(2, "magnitude", 1e-3, 0.01, 2000, 40)

    unchecked = Goal(2, "magnitude", 1e-3, None, 2000, 40)
    alone = certify(operator, unchecked, torch.Generator(), converged_from(operator, start, 1e-3))
    generator = torch.Generator().manual_seed(0)
    found = certify(operator, goal, generator, converged_from(operator, start, 1e-3))

    # What goes unseen without the check.
    assert alone.pairs.values[:2].tolist() == pytest.approx([2.0, 1.0], rel=1e-3)
    assert alone.check is None
    assert not alone.missed
    assert found.pairs.values[:2].tolist() == pytest.approx([4.0, 2.0], rel=1e-3)
    assert found.missed
    assert found.converged


def test_a_start_nearly_orthogonal_to_the_first_vector_finds_it() -> None:
    values = torch.as_tensor(oracles.bulk(2.0, 1.9, 1.0, dim=200), dtype=torch.float64)
    operator = oracles.dense(torch.diag(values))
    start = torch.randn(3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start[:, 0] *= 1e-8

    goal = Goal(2, "magnitude", 1e-4, 0.01, 2000, 40)
    basis = converged_from(operator, start, 1e-4)
    found = certify(operator, goal, torch.Generator().manual_seed(0), basis)

    assert found.pairs.values[:2].tolist() == pytest.approx([2.0, 1.9], rel=1e-6)


def test_angle_accounts_for_values_of_the_other_sign_that_were_not_computed() -> None:
    """After 1 comes -0.999; what comes next, 0.998, is not computed, and its gap to 1 is the smaller one."""
    a = oracles.symmetric(oracles.bulk(1.0, -0.999, 0.998, dim=200))
    for seed in range(10):
        pairs = top_eigenpairs(a.operator(), k=1, tolerance=1e-2, seed=seed)
        assert angle_between(pairs, a, 0) <= float(pairs.angles[0]) + ROUNDING


def test_angles_of_equal_values_are_ninety_degrees() -> None:
    a = oracles.symmetric(oracles.bulk(1.0, 1.0, dim=80))

    assert top_eigenpairs(a.operator()).angles.tolist() == pytest.approx([math.pi / 2] * 2)


def test_no_probability_means_no_check() -> None:
    a = oracles.symmetric(oracles.bulk(3.0, 2.0))

    with_check, without = top_eigenpairs(a.operator()), top_eigenpairs(a.operator(), probability=None)

    assert without.check is None
    assert with_check.check is not None
    assert with_check.products == without.products + with_check.check.products


@pytest.mark.parametrize("k", [1, 2, 3])
def test_without_a_check_nothing_is_said_about_the_angle_of_the_last_pair(k: int) -> None:
    """A value as large as the last may have been missed."""
    a = oracles.symmetric(oracles.bulk(3.0, 2.0, 1.5))

    pairs = top_eigenpairs(a.operator(), k=k, probability=None)

    assert float(pairs.angles[-1]) == math.pi / 2
    assert bool((pairs.angles[:-1] < 1e-2).all())
    assert bool((top_eigenpairs(a.operator(), k=k).angles < 1e-2).all())


@pytest.mark.parametrize("top", [[3.0, 1.0], [1.0, 1.0, 1.0], [1.0, -0.999]])
def test_counts_every_product(top: list[float]) -> None:
    a, counted = oracles.symmetric(oracles.bulk(*top, dim=150)), 0

    def apply(rows: torch.Tensor) -> torch.Tensor:
        nonlocal counted
        counted += len(rows)
        return rows @ a.matrix

    pairs = top_eigenpairs(Operator(apply, 150, torch.float64, torch.device("cpu"), "counted"))

    assert pairs.products == counted


def test_the_same_seed_gives_the_same_bits() -> None:
    a = oracles.symmetric(oracles.bulk(1.5, 1.4, dim=150))

    one, two, other = (top_eigenpairs(a.operator(), seed=seed) for seed in (3, 3, 4))

    assert torch.equal(one.vectors, two.vectors)
    assert not torch.equal(one.vectors, other.vectors)


def test_torchs_generators_are_not_changed() -> None:
    before = torch.get_rng_state()

    top_eigenpairs(oracles.symmetric(oracles.bulk(1.5, 1.4)).operator())

    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 61}, "60 eigenvalues"),
        ({"order": "biggest"}, "magnitude, largest, smallest"),
        ({"max_products": 0}, "max_products is 0; give at least 5"),
        ({"max_products": 4}, "max_products is 4; give at least 5, since each of 2 pairs takes two products"),
        ({"memory": 6}, "memory is 6; give at least 7 vectors for k = 2"),
        ({"dtype": torch.float64}, "an operator takes none of them"),
    ],
)
def test_an_invalid_argument_is_an_error(options: dict[str, object], message: str) -> None:
    a = oracles.symmetric(oracles.bulk(2.0, 1.0))

    with pytest.raises(ValueError, match=message):
        top_eigenpairs(a.operator(), **options)  # type: ignore[arg-type]  # mistakes are the point


def test_a_model_without_a_loss_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs its loss and data"):
        top_eigenpairs(nn.Linear(1, 1))


def test_a_non_finite_product_is_an_error() -> None:
    matrix = torch.eye(5, dtype=torch.float64)
    matrix[2, 2] = math.nan

    with pytest.raises(FloatingPointError, match="product with the matrix"):
        top_eigenpairs(oracles.dense(matrix))


def test_float32_is_used_if_it_suffices_and_residuals_are_in_float64() -> None:
    a = oracles.symmetric(oracles.bulk(3.0, 2.0, dim=100))

    pairs = top_eigenpairs(a.operator(torch.float32))

    assert pairs.dtype == torch.float32
    assert pairs.vectors.dtype == torch.float32
    assert pairs.converged
    assert pairs.values.tolist() == pytest.approx([3.0, 2.0], rel=1e-6)
    assert pairs.noise == pytest.approx(1e-6, rel=3)  # some float32 roundings of a value of 3
    check_bounds(pairs, a)


@settings(max_examples=60)
@example(spectrum=[0.0, 5e-324], seed=0, k=1)  # below the normal range
@given(
    spectrum=st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=40),
    seed=st.integers(0, 2**31),
    k=st.integers(1, 4),
)
def test_any_spectrum_is_found(spectrum: list[float], seed: int, k: int) -> None:
    a, k = oracles.symmetric(spectrum, seed), min(k, len(spectrum))

    pairs = top_eigenpairs(a.operator(), k=k, tolerance=1e-7, seed=seed)

    size = float(a.values[0].abs())
    assert pairs.converged
    # What a check cannot tell from the last is within the tolerance of it.
    assert torch.allclose(pairs.values.abs(), a.values[:k].abs(), rtol=0, atol=2e-7 * size + 1e-300)
    gram = pairs.vectors @ pairs.vectors.T
    assert torch.allclose(gram, torch.eye(k, dtype=torch.float64), atol=1e-12)


def random_spectrum(seed: int) -> list[float]:
    """Of the kinds that Hessians have: a bulk, and some values outside of it, near one another or not."""
    generator = torch.Generator().manual_seed(seed)
    dim = int(torch.randint(20, 90, (1,), generator=generator))
    gap = (3.0, 1.2, 1.05, 1.01, 1.0)[seed % 5]
    third = 1 - 0.3 * float(torch.rand(1, generator=generator)) ** 2
    signs = torch.randint(0, 2, (3,), generator=generator) * 2 - 1
    top = (torch.tensor([gap, 1.0, third]) * signs).tolist()
    rest = (torch.rand(dim - 3, generator=generator) * 2 - 1) * third
    return [*top, *rest.tolist()]


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=[pytest.mark.campaign, pytest.mark.slow])])
def test_many_matrices(runs: int) -> None:
    """No value above the truth; an interval fails no more often than the checks' probabilities say."""
    outside, stated = 0, 0.0
    for seed in range(runs):
        a = oracles.symmetric(random_spectrum(seed), seed)
        pairs = top_eigenpairs(a.operator(), seed=seed)
        assert pairs.converged
        assert pairs.check is not None
        assert (pairs.values.abs() <= a.values[:2].abs() * (1 + ROUNDING)).all()
        ratio, truth = pairs.ratio, abs(float(a.values[0] / a.values[1]))
        inside = ratio.low <= truth * (1 + ROUNDING) and truth <= ratio.high * (1 + ROUNDING)
        outside += not inside
        stated += min(pairs.check.probability, 0.01)
        if truth >= 1.2 - 1e-9 and pairs.check.probability <= 0.01:
            assert ratio.high - ratio.low < 0.01 * truth
        if float(a.values[1].abs() - a.values[2].abs()) > 1e-3:  # elsewise the third may stand for it
            opposite = float(a.values[0] * a.values[1]) < 0
            assert ratio.sign != ("same" if opposite else "opposite") or not inside
        if inside:
            check_bounds(pairs, a)

    assert stats.binomtest(outside, runs, 0.01, alternative="greater").pvalue > 1e-3
    assert stated <= 0.01 * runs


def test_nothing_further_out_is_missed_in_a_matrix_of_zeros() -> None:
    pairs = top_eigenpairs(oracles.dense(torch.zeros(20, 20, dtype=torch.float64)))

    assert pairs.values.tolist() == [0.0, 0.0]
    assert pairs.check is not None
    assert pairs.check.probability == 0.0


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan, math.inf])
def test_an_invalid_tolerance_is_an_error(tolerance: float) -> None:
    with pytest.raises(ValueError, match=f"tolerance is {tolerance}; give a positive number"):
        top_eigenpairs(oracles.symmetric([2.0, 1.0]).operator(), tolerance=tolerance)


@pytest.mark.parametrize("probability", [0.0, -1.0, math.nan, 1.0, 2.0])
def test_an_invalid_probability_is_an_error(probability: float) -> None:
    with pytest.raises(ValueError, match=f"probability is {probability}; give one between 0 and 1"):
        top_eigenpairs(oracles.symmetric([2.0, 1.0]).operator(), probability=probability)
