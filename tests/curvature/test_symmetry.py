"""The check of symmetry, which detects wrong second derivatives."""

from typing import Any

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import check_symmetry, hessian, top_eigenpairs


class Once(torch.autograd.Function):
    """A square whose backward pass hides from torch what it depends on."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.z = z.detach()
        return z**2

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        found: Tensor = (2 * ctx.z * slopes[0]).detach()
        return found


class OnlyOnce(nn.Module):
    """A net with such a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = Once.apply(self.first(x))
        found: Tensor = self.last(inner)
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", ["magnitude", "smallest"])
def test_wrong_second_derivatives_are_an_error(dtype: torch.dtype, order: Any) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=dtype), torch.arange(30) % 3
    model = OnlyOnce().to(dtype)

    with pytest.raises(ValueError, match="the Hessian is not symmetric"):
        top_eigenpairs(model, functional.cross_entropy, (x, y), order=order)
    with pytest.raises(ValueError, match="the Hessian is not symmetric"):
        check_symmetry(hessian(model, functional.cross_entropy, (x, y)))


@given(
    top=st.lists(st.floats(-1, 1), min_size=3, max_size=12),
    scale=st.sampled_from([1e-7, 1.0, 1e7]),
    single=st.booleans(),
)
def test_every_symmetric_matrix_is_accepted(top: list[float], scale: float, single: bool) -> None:
    a = oracles.symmetric([scale * value for value in top], seed=3)

    check_symmetry(a.operator(torch.float32) if single else a.operator())
