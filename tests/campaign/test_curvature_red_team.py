"""What curvature claims of 300 nets and 500 structured operators, of a million dimensions, and in noise.

Bounds without a probability may never be violated; those with one no more often than the checks state, by a one-sided
binomial test. `make campaign ARGS=tests/campaign/test_curvature_red_team.py` prints the counts.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redteam
import torch

pytestmark = [pytest.mark.slow, pytest.mark.campaign, pytest.mark.timeout(3600)]

PRECISIONS = [
    pytest.param(dtype, id=str(dtype).removeprefix("torch.")) for dtype in (torch.float32, torch.float64)
]
MILLION, LARGEST = 1_100_000, 5_000_000
BYTES = 3e9


@contextmanager
def resident_at_most(limit: float) -> Iterator[None]:
    """Fail if the resident memory rises by more, where the system tells."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")

    def most() -> int:
        lines = status.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

    if not clear.exists():
        yield
        return
    clear.write_text("5")
    before = most()
    yield
    assert most() - before <= limit


def test_what_a_search_claims_of_structured_operators_holds(count: redteam.Count) -> None:
    assert not redteam.search_all("search", redteam.structured(500), count)


def test_what_a_search_claims_of_nets_holds(count: redteam.Count) -> None:
    assert not redteam.search_all("search", redteam.nets(range(300)), count)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_intervals_of_traces_hold(dtype: torch.dtype, count: redteam.Count) -> None:
    cases = itertools.chain(redteam.structured(180, 400, dtype), redteam.nets(range(150), dtype, most=800))

    held, of = redteam.trace_all("trace", cases, count)

    assert held >= redteam.SMALLEST_SHARE * of


def test_densities_are_off_by_no_more_than_they_state(count: redteam.Count) -> None:
    cases = itertools.chain(redteam.structured(63, 1200), redteam.nets(range(60), most=1200))

    held, of = redteam.density_all("density", cases, count)

    assert held >= redteam.SMALLEST_SHARE * of


@pytest.mark.parametrize("kind", redteam.LARGE)
def test_a_million_dimensions_in_float32(kind: str, count: redteam.Count) -> None:
    top, k = redteam.LARGE[kind]

    with resident_at_most(BYTES):
        wrong = redteam.search_all("large", [redteam.large(f"{kind}, 1.1 million", top, MILLION, k)], count)

    assert not wrong


def test_five_million_dimensions_in_float32(count: redteam.Count) -> None:
    top, k = redteam.LARGE["plain"]

    with resident_at_most(BYTES):
        wrong = redteam.search_all("large", [redteam.large("plain, 5 million", top, LARGEST, k)], count)

    assert not wrong


@pytest.mark.parametrize("error", [1e-3, 1e-2])
@pytest.mark.parametrize("dim", [300, 1000, 3000])
def test_an_operator_whose_noise_forbids_a_check_claims_nothing(dim: int, error: float) -> None:
    assert redteam.wrong_of_noise(redteam.noisy(dim, error)) is None


def test_products_in_bfloat16_claim_nothing() -> None:
    assert redteam.wrong_of_noise(redteam.half()) is None
