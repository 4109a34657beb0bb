"""The check of symmetry, which detects wrong second derivatives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import (
    EigenTracker,
    check_second_derivatives,
    check_symmetry,
    hessian,
    loss_landscape,
    top_eigenpairs,
)


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

    def __init__(self, inputs: int = 4) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, 5), nn.Linear(5, 3)

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

    with pytest.raises(ValueError, match="the Hessian is (not symmetric|wrong)"):
        top_eigenpairs(model, functional.cross_entropy, (x, y), order=order)
    with pytest.raises(ValueError, match="the Hessian is (not symmetric|wrong)"):
        check_symmetry(hessian(model, functional.cross_entropy, (x, y)))


class Square(nn.Module):
    """The same as a layer."""

    def forward(self, z: Tensor) -> Tensor:
        found: Tensor = Once.apply(z)
        return found


class Normalised(nn.Module):
    """What weight_norm computes, by operations that torch differentiates twice."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return g * v / self._norm(v)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._norm(weight), weight

    @staticmethod
    def _norm(v: Tensor) -> Tensor:
        found: Tensor = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
        return found


def deprecated_weight_norm(layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.utils.weight_norm(layer)


def wide(width: int, norm: Any = nn.utils.parametrizations.weight_norm) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(norm(nn.Linear(8, width)), nn.Tanh(), nn.Linear(width, 3))


def plain(layer: nn.Module) -> nn.Module:
    return layer


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.utils.parametrizations.weight_norm(nn.Conv1d(1, 4, 3))
    return nn.Sequential(nn.Unflatten(1, (1, 8)), norm, nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))


def pooled() -> nn.Sequential:
    """Return a net with kinks before the layer that is wrong: zeros of a rectifier tie in the pooling layers."""
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv1d(a, 8, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.ReLU()) for a in (1, 8)
    ]
    norm = nn.utils.parametrizations.weight_norm(nn.Linear(16, 8))
    return nn.Sequential(nn.Unflatten(1, (1, 8)), *blocks, nn.Flatten(), nn.Sequential(norm), nn.Linear(8, 3))


EXAMPLES = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
WEIGHT_NORM = r"\(weight_norm of its weight\) cannot be differentiated twice"
WRONG: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "narrow": (lambda: wide(4), rf"module '0' {WEIGHT_NORM}"),
    "wide": (lambda: wide(256), rf"module '0' {WEIGHT_NORM}"),
    "so wide that it is hidden in float32": (lambda: wide(2048), rf"module '0' {WEIGHT_NORM}"),
    "convolution": (convolutional, rf"module '1' {WEIGHT_NORM}"),
    "after kinks": (pooled, rf"module '4.0' {WEIGHT_NORM}"),
    "deprecated": (lambda: wide(4, deprecated_weight_norm), rf"module '0' {WEIGHT_NORM}"),
    "a layer": (
        lambda: nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Sequential(Square()), nn.Linear(5, 3)),
        r"module '2.0' \(Square\) cannot be differentiated twice, though torch returns numbers for it; its backward",
    ),
    "the model": (lambda: OnlyOnce(8), r"the model \(OnlyOnce\) cannot be differentiated twice"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_the_module_that_cannot_be_differentiated_twice_is_named(
    make: Callable[[], nn.Module], message: str
) -> None:
    model = make()
    before = oracles.snapshot(model)

    with pytest.raises(ValueError, match=rf"the Hessian is (not symmetric|wrong): {message}"):
        top_eigenpairs(model, functional.cross_entropy, EXAMPLES)
    with pytest.raises(ValueError, match=message):
        check_symmetry(hessian(model, functional.cross_entropy, oracles.chunks(EXAMPLES, 15, 25)))
    with pytest.raises(ValueError, match=message):
        check_second_derivatives(model, functional.cross_entropy, EXAMPLES)

    assert oracles.same(before, oracles.snapshot(model))


def test_a_loss_that_cannot_be_differentiated_twice_is_named() -> None:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        squares: Tensor = Once.apply(z)
        return functional.cross_entropy(z, y) + (squares[:, 0] * z[:, 1]).mean()

    with pytest.raises(ValueError, match="the Hessian is wrong: the loss cannot be differentiated twice"):
        check_symmetry(hessian(wide(4, plain), loss, EXAMPLES))


class Cube(torch.autograd.Function):
    """A cube whose second derivative is zero in what its backward pass keeps: the Hessian is symmetric, and wrong."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.z = z.detach()
        return z**3

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        found: Tensor = 3 * ctx.z * ctx.z * slopes[0]
        return found


class RightCube(Cube):
    """The same, right."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z**3

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        found: Tensor = 3 * z * z * slopes[0]
        return found


class Rounded(torch.autograd.Function):
    """A straight-through estimator, whose backward pass is not the derivative of its forward pass."""

    @staticmethod
    def forward(_: Any, z: Tensor) -> Tensor:
        return (4 * z).round() / 4

    @staticmethod
    def backward(_: Any, *slopes: Tensor) -> Tensor:
        return slopes[0]


class RectifiedInSingle(torch.autograd.Function):
    """A rectifier that computes in float32 inside, as many kernels of one's own do."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        found: Tensor = z.float().relu().square()
        return found.to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        found: Tensor = 2 * z.float().relu() * slopes[0].float()
        return found.to(z.dtype)


class Applies(nn.Module):
    """A layer of a function."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        found: Tensor = self.function.apply(z)
        return found


def with_function(function: type[torch.autograd.Function]) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(8, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 5), Applies(function)), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(5, 3))


@pytest.mark.parametrize("data", [EXAMPLES, oracles.chunks(EXAMPLES, 15, 25)], ids=["one", "several"])
def test_a_wrong_second_derivative_that_is_symmetric_is_named(data: Any) -> None:
    model = with_function(Cube)
    message = r"the Hessian is wrong: module '2.1' \(Applies\) cannot be differentiated twice"

    for call in (hessian, check_second_derivatives):
        with pytest.raises(ValueError, match=message):
            call(model, functional.cross_entropy, data)
    with pytest.raises(ValueError, match=message):
        loss_landscape(model, functional.cross_entropy, data, torch.ones(1, 107), [[0.0, 1.0]])
    tracker = EigenTracker(functional.cross_entropy, data, range(3))
    with pytest.raises(ValueError, match=message):
        tracker.observe(Context(0, model), None)


@dataclass(frozen=True)
class Context:
    """What a tracker looks at."""

    step: int
    model: nn.Module
    optimizer: Any = None


@pytest.mark.parametrize("function", [RightCube, Rounded, RectifiedInSingle])
def test_a_function_is_accepted_unless_it_is_known_to_be_wrong(function: Any) -> None:
    model = with_function(function)

    assert hessian(model, functional.cross_entropy, EXAMPLES).dim == 107
    check_second_derivatives(model, functional.cross_entropy, EXAMPLES)


def test_what_the_message_recommends_for_weight_norm_is_right() -> None:
    def norm(layer: nn.Module) -> nn.Module:
        return nn.utils.parametrize.register_parametrization(layer, "weight", Normalised())

    model = wide(4, norm)
    operator = hessian(model, functional.cross_entropy, EXAMPLES, dtype=torch.float64)
    vector = torch.randn(operator.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    check_symmetry(operator)
    found = oracles.finite_differences(model, functional.cross_entropy, EXAMPLES, vector)

    assert torch.allclose(operator @ vector, found, rtol=1e-6, atol=1e-8)


class InSingle(nn.Module):
    """Normalises in float32, whatever the precision of its input, as many language models do."""

    def forward(self, z: Tensor) -> Tensor:
        return functional.normalize(z.float(), dim=1).to(z.dtype)


class Draws(nn.Module):
    """Adds noise in every mode."""

    def forward(self, z: Tensor) -> Tensor:
        return z + torch.rand_like(z)


class Attention(nn.Module):
    """Attends over the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = x.unsqueeze(1)
        return self.head(self.attention(z, z, z)[0].squeeze(1))  # type: ignore[no-any-return]


RIGHT: dict[str, Callable[[], nn.Module]] = {
    "rectified": lambda: nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3)),
    "normalised": lambda: nn.Sequential(nn.Linear(8, 5), nn.LayerNorm(5), nn.BatchNorm1d(5), nn.Linear(5, 3)),
    "in float32 inside": lambda: nn.Sequential(nn.Linear(8, 5), nn.Tanh(), InSingle(), nn.Linear(5, 3)),
    "attention": Attention,
    "noise and dropout": lambda: nn.Sequential(nn.Linear(8, 5), Draws(), nn.Dropout(0.5), nn.Linear(5, 3)),
    "in float64": lambda: nn.Sequential(nn.Linear(8, 5), nn.Softplus(), nn.Linear(5, 3)).double(),
}


@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
def test_models_that_torch_differentiates_twice_are_accepted(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    before = oracles.snapshot(model)

    check_second_derivatives(model, functional.cross_entropy, EXAMPLES)

    assert oracles.same(before, oracles.snapshot(model))


@pytest.mark.parametrize("wrong", [True, False])
def test_a_loss_in_float32_alone_is_asked_in_float32(wrong: bool) -> None:
    weight = torch.tensor([1.0, 2.0, 0.5])
    model = wide(4, nn.utils.parametrizations.weight_norm if wrong else plain)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(z, y, weight)

    if wrong:
        with pytest.raises(ValueError, match="is not symmetric"):
            check_second_derivatives(model, loss, EXAMPLES)
    else:
        check_second_derivatives(model, loss, EXAMPLES)


@given(
    top=st.lists(st.floats(-1, 1), min_size=3, max_size=12),
    scale=st.sampled_from([1e-7, 1.0, 1e7]),
    single=st.booleans(),
)
def test_every_symmetric_matrix_is_accepted(top: list[float], scale: float, single: bool) -> None:
    a = oracles.symmetric([scale * value for value in top], seed=3)

    check_symmetry(a.operator(torch.float32) if single else a.operator())
