"""What curvature claims of operators and nets drawn from seeds; tests/campaign/test_curvature_red_team.py does more."""

import pytest
import redteam
import torch
from scipy import stats

from optstudy.curvature import Operator

PRECISIONS = [
    pytest.param(dtype, id=str(dtype).removeprefix("torch.")) for dtype in (torch.float32, torch.float64)
]


def test_what_a_search_claims_of_structured_operators_holds(count: redteam.Count) -> None:
    assert not redteam.search_all("search", redteam.structured(108), count)


def test_what_a_search_claims_of_nets_holds(count: redteam.Count) -> None:
    assert not redteam.search_all("search", redteam.nets(range(0, 300, 17), most=150), count)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_intervals_of_traces_hold(dtype: torch.dtype, count: redteam.Count) -> None:
    cases = [*redteam.structured(36, 200, dtype), *redteam.nets(range(0, 300, 29), dtype, most=100)]

    held, of = redteam.trace_all("trace", cases, count)

    assert stats.binomtest(held, of, 0.95, alternative="less").pvalue >= redteam.SIGNIFICANCE


def test_densities_are_off_by_no_more_than_they_state(count: redteam.Count) -> None:
    held, of = redteam.density_all(
        "density", [*redteam.structured(9, 82), *redteam.nets(range(0, 300, 77), most=80)], count
    )

    assert stats.binomtest(held, of, 0.95, alternative="less").pvalue >= redteam.SIGNIFICANCE


@pytest.mark.parametrize("operator", [redteam.noisy(250), redteam.half(250)], ids=["noise", "bfloat16"])
def test_an_operator_whose_noise_forbids_a_check_claims_nothing(operator: Operator) -> None:
    assert redteam.wrong_of_noise(operator) is None
