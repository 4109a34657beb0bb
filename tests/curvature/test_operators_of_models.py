"""Operators of many kinds of models: selected, frozen and tied parameters, attention, recurrence, precisions."""

from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import Operator, fisher, gauss_newton, hessian

X, Y = oracles.examples()


class Unused(nn.Module):
    """A net with a layer that its output does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(3, 4), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x).tanh()  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [hessian, gauss_newton, fisher])
@pytest.mark.parametrize("sizes", [(13,), (6, 7)], ids=["one", "several"])
def test_parameters_that_the_loss_does_not_use_have_rows_of_zeros(
    make: Callable[..., Operator], sizes: tuple[int, ...]
) -> None:
    data = oracles.chunks((X, Y), *sizes)

    every = oracles.as_matrix(make(Unused(), functional.cross_entropy, data))
    alone = oracles.as_matrix(make(Unused(), functional.cross_entropy, data, parameters="spare.*"))

    assert every[:16, :16].any()
    assert not every[16:].any()
    assert not every[:, 16:].any()
    assert alone.shape == (6, 6)
    assert not alone.any()


def test_parameters_are_chosen_by_pattern() -> None:
    model = oracles.net(3, 5, 4)
    whole = oracles.dense_hessian(model, functional.cross_entropy, (X, Y))
    for patterns, rows in (("0.*", range(20)), (["2.bias", "0.bias"], [*range(15, 20), *range(40, 44)])):
        found = hessian(model, functional.cross_entropy, (X, Y), parameters=patterns, dtype=torch.float64)

        assert oracles.near(oracles.as_matrix(found), whole[list(rows)][:, list(rows)])


def test_frozen_parameters_do_not_count() -> None:
    model = oracles.net(3, 5, 4)
    whole = oracles.dense_hessian(model, functional.cross_entropy, (X, Y))
    for p in model[0].parameters():
        p.requires_grad = False

    found = hessian(model, functional.cross_entropy, (X, Y), dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(found), whole[20:, 20:])


class Tied(nn.Module):
    """A net that uses one matrix twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())  # type: ignore[no-any-return]


def test_tied_weights_count_once_and_everywhere() -> None:
    model = Tied()
    x, y = oracles.examples(classes=3)

    def loss(vector: Tensor) -> Tensor:
        w = vector.view(3, 3)
        return functional.cross_entropy((x.double() @ w.T).tanh() @ w.T, y)

    weights = model.first.weight.detach().double().flatten()
    truth = torch.func.jacrev(torch.func.grad(loss))(weights)

    found = hessian(model, functional.cross_entropy, (x, y), dtype=torch.float64)

    assert found.dim == 9
    assert oracles.near(oracles.as_matrix(found), truth)


def test_outputs_that_are_not_a_tensor_are_an_error() -> None:
    class Two(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), x

    def loss(z: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        return functional.cross_entropy(z[0], y)

    assert hessian(Two(3, 4), loss, (X, Y)).dim == 16  # the Hessian takes any
    for make in (gauss_newton, fisher):
        with pytest.raises(TypeError, match="a single output tensor"):
            make(Two(3, 4), loss, (X, Y))


def attention() -> nn.Module:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(4, 2, batch_first=True)
            self.outer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.inner(x, x, x, need_weights=False)[0].mean(1))  # type: ignore[no-any-return]

    return Attention()


def scaled() -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.inner(x).chunk(3, -1)
            return self.outer(functional.scaled_dot_product_attention(q, k, v).mean(1))  # type: ignore[no-any-return]

    return Scaled()


def recurrent() -> nn.Module:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.inner(x)[0][:, -1])  # type: ignore[no-any-return]

    return Recurrent()


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 3))


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("make", [attention, scaled, recurrent, encoder])
def test_attention_and_recurrence_have_their_hessian(make: Callable[[], nn.Module], train: bool) -> None:
    """Against differences of gradients, which need one backward pass only, in float64."""
    torch.manual_seed(0)
    model = make().double().train(train)
    x, y = torch.randn(5, 6, 4, dtype=torch.float64), torch.randint(3, (5,))
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    direction = torch.randn(len(start), dtype=torch.float64)
    operator = hessian(model, functional.cross_entropy, (x, y))
    gradients = []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(start + sign * 1e-5 * direction, model.parameters())
        loss = functional.cross_entropy(model(x), y)
        gradients.append(nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(model.parameters()))))

    product = operator @ direction

    assert torch.allclose(product, (gradients[0] - gradients[1]) / 2e-5, rtol=1e-5, atol=1e-8)


def test_half_precision_is_computed_in_float32() -> None:
    model = oracles.net(3, 5, 4).bfloat16()
    truth = oracles.dense_hessian(model, functional.cross_entropy, (X.bfloat16(), Y))

    operator = hessian(model, functional.cross_entropy, (X.bfloat16(), Y))

    assert operator.dtype == torch.float32
    assert torch.allclose(oracles.as_matrix(operator), truth, rtol=1e-4, atol=1e-6)


def test_a_model_in_float64_is_computed_in_float64() -> None:
    operator = hessian(oracles.net(3, 5, 4).double(), functional.cross_entropy, (X.double(), Y))

    assert operator.dtype == torch.float64


def test_a_model_of_two_precisions_is_computed_in_the_higher() -> None:
    model = oracles.net(3, 5, 4)
    model[2].double()

    assert hessian(model, functional.cross_entropy, (X, Y)).dtype == torch.float64
