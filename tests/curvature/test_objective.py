"""One loss for one set of weights: what is refused, what is read, and that nothing else is touched."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from optstudy.curvature import (
    Operator,
    fisher,
    gauss_newton,
    hessian,
    loss_landscape,
    objective,
    spectral_density,
    top_eigenpairs,
    trace,
)

X, Y = oracles.examples()
LOSS = functional.cross_entropy


def normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 4))


class Functional(nn.Module):
    """A net that draws in its forward pass, whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.layer(x), training=True)


def no_shape(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z, y, reduction="none")


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    yield X, Y


TWO = oracles.chunks((X, Y), 6, 7)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "dropout": (lambda: hessian(normed(), LOSS, (X, Y)), "3 is dropout in train mode"),
    "functional dropout": (lambda: hessian(Functional(), LOSS, (X, Y)), "draws random numbers"),
    "batch norm": (
        lambda: hessian(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), LOSS, TWO),
        "1 is batch norm that uses batch statistics",
    ),
    "batch norm that keeps no statistics": (
        lambda: hessian(
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval(), LOSS, TWO
        ),
        "1 is batch norm that uses batch statistics",
    ),
    "batch norm and examples": (
        lambda: fisher(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), LOSS, (X, Y)),
        "the loss of a single example is undefined",
    ),
    "one-shot data": (lambda: hessian(nn.Linear(3, 4), LOSS, batches()), "iterated only once"),
    "empty data": (lambda: hessian(nn.Linear(3, 4), LOSS, []), "data has no batch"),
    "empty batch": (lambda: hessian(nn.Linear(3, 4), LOSS, (X[:0], Y[:0])), "data has no batch"),
    "all ignored": (
        lambda: hessian(nn.Linear(3, 4), LOSS, (X, torch.full_like(Y, -100))),
        "a target that is not ignored",
    ),
    "two tensors of inputs and no targets": (
        lambda: hessian(nn.Linear(3, 4), LOSS, X),
        "data is a single Tensor; give a batch (inputs, targets)",
    ),
    "half precision": (
        lambda: hessian(nn.Linear(3, 4), LOSS, (X, Y), dtype=torch.float16),
        "dtype is torch.float16; curvature requires float32 or float64",
    ),
    "detached": (
        lambda: hessian(nn.Linear(3, 4), lambda z, y: LOSS(z.detach(), y), (X, Y)),
        "the loss does not depend on any parameter",
    ),
    "detached, Gauss-Newton": (
        lambda: gauss_newton(nn.Linear(3, 4), lambda z, y: LOSS(z.detach(), y), (X, Y)),
        "the loss does not depend on any parameter",
    ),
    "inference mode": (
        torch.inference_mode()(lambda: hessian(nn.Linear(3, 4), LOSS, (X, Y))),
        "inference mode is on",
    ),
    "neither mean nor sum": (
        lambda: hessian(nn.Linear(3, 4), lambda z, y: LOSS(z, y) * len(y) ** 0.5, TWO),
        "the loss is neither the mean nor the sum",
    ),
    "loss of a vector": (lambda: hessian(nn.Linear(3, 4), no_shape, (X, Y)), "the loss is (13,)"),
    "loss of a number": (lambda: hessian(nn.Linear(3, 4), lambda *_: 1.0, (X, Y)), "the loss is float"),  # type: ignore[arg-type]
    "no reduction": (
        lambda: hessian(nn.Linear(3, 4), nn.CrossEntropyLoss(reduction="none"), (X, Y)),
        "use 'mean' or 'sum'",
    ),
    "no such parameter": (
        lambda: hessian(nn.Linear(3, 4), LOSS, (X, Y), parameters="layer.*"),
        "matches 'layer.*'; the parameters are weight, bias",
    ),
    "no parameter named": (
        lambda: hessian(nn.Linear(3, 4), LOSS, (X, Y), parameters=[]),
        "parameters is empty",
    ),
    "no parameter": (lambda: hessian(nn.Tanh(), LOSS, (X, Y)), "no parameter that requires a gradient"),
}


@pytest.mark.parametrize(("act", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_an_objective_without_a_hessian_is_an_error(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is compared below
        act()

    assert message in str(caught.value)


@pytest.mark.parametrize("make", [hessian, gauss_newton])
def test_a_custom_sum_over_batches_is_the_sum_over_all_examples(make: Callable[..., Operator]) -> None:
    def summed(z: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(z, y, reduction="sum")

    model = nn.Linear(3, 4)

    one, two = (oracles.as_matrix(make(model, summed, data, dtype=torch.float64)) for data in ((X, Y), TWO))

    assert torch.allclose(one, two)


def test_a_custom_mean_over_batches_is_the_mean_over_all_examples() -> None:
    model = nn.Linear(3, 4)

    one, two = (
        oracles.as_matrix(hessian(model, lambda z, y: LOSS(z, y), data, dtype=torch.float64))  # noqa: PLW0108  # a loss that is not torch's
        for data in ((X, Y), TWO)
    )

    assert torch.allclose(one, two)


def test_tensors_of_a_loss_in_another_precision_are_an_error() -> None:
    weight = torch.ones(4)

    with pytest.raises(
        TypeError, match=r"cannot be computed in torch.float64 .*register constant tensors as buffers"
    ):
        top_eigenpairs(nn.Linear(3, 4), lambda z, y: LOSS(z, y, weight=weight), (X, Y))


def test_a_vector_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"the vector has shape \(3,\); the Hessian takes \(16,\)"):
        hessian(nn.Linear(3, 4), LOSS, (X, Y)) @ torch.ones(3)


def test_a_pattern_that_matches_a_frozen_parameter_alone_is_named() -> None:
    model = nn.Linear(3, 4)
    model.bias.requires_grad = False

    with pytest.raises(ValueError, match="the parameters are weight"):
        hessian(model, LOSS, (X, Y), parameters="bias")


def test_dropout_of_probability_zero_is_accepted() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.0))

    assert hessian(model, LOSS, (X, Y)).dim == 16


def test_batch_norm_in_eval_mode_uses_its_statistics() -> None:
    model = normed().eval()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    truth = oracles.dense_hessian(model, LOSS, (X, Y))
    for data in ((X, Y), TWO):
        found = oracles.as_matrix(hessian(model, LOSS, data, dtype=torch.float64))

        assert torch.allclose(found, truth, rtol=1e-9, atol=1e-12)


def test_batch_norm_in_train_mode_on_one_batch_is_that_of_the_batch() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 4))
    before = oracles.snapshot(model)
    x, y = X.double(), Y

    def by_hand(vector: Tensor) -> Tensor:
        w, b, scale, shift, w2, b2 = torch.split(vector, [12, 4, 4, 4, 16, 4])
        z = x @ w.view(4, 3).T + b
        z = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() * scale + shift
        return functional.cross_entropy(z.tanh() @ w2.view(4, 4).T + b2, y)

    weights = nn.utils.parameters_to_vector(model.parameters()).detach().double()
    truth = torch.func.jacrev(torch.func.grad(by_hand))(weights)

    found = oracles.as_matrix(hessian(model, LOSS, (X, Y), dtype=torch.float64))

    assert torch.allclose(found, truth, rtol=1e-8, atol=1e-10)
    assert oracles.same(before, oracles.snapshot(model))


class TwoInputs(nn.Module):
    """A net of two inputs, for tuples and dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.layer(a * b).tanh()  # type: ignore[no-any-return]


@pytest.mark.parametrize("inputs", [(X, X), [X, X], {"a": X, "b": X}], ids=["tuple", "list", "dict"])
def test_inputs_may_be_several(inputs: Any) -> None:
    torch.manual_seed(0)
    model = TwoInputs()
    truth = oracles.dense_hessian(model, LOSS, ({"a": X, "b": X}, Y))

    for data in ((inputs, Y), [(inputs, Y)]):
        found = oracles.as_matrix(hessian(model, LOSS, data, dtype=torch.float64))
        assert torch.allclose(found, truth, rtol=1e-9, atol=1e-12)


def test_integers_stay_integers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(6, 4))
    words = torch.randint(7, (13, 2))

    found = oracles.as_matrix(hessian(model, LOSS, (words, Y), dtype=torch.float64))

    assert torch.allclose(found, oracles.dense_hessian(model, LOSS, (words, Y)), rtol=1e-9, atol=1e-12)


def test_a_custom_denominator_weights_the_batches() -> None:
    """A loss of sequences, each a mean over the tokens that count, which the library cannot know."""
    model = oracles.net(3, 5, 4)
    counts = (Y != 0).double()

    def loss(z: Tensor, y: Tensor) -> Tensor:
        each = functional.cross_entropy(z, y, reduction="none")
        return (each * (y != 0)).sum() / (y != 0).sum()

    truth = oracles.dense_hessian(model, loss, (X, Y))

    found = hessian(model, loss, TWO, dtype=torch.float64, denominator=lambda y: float((y != 0).sum()))

    assert 0 < counts[:6].sum() / 6 != counts[6:].sum() / 7  # elsewise any weights would do
    assert torch.allclose(oracles.as_matrix(found), truth, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [nn.MSELoss(), functional.mse_loss, functools.partial(functional.l1_loss)])
def test_a_mean_over_elements_weighs_batches_by_elements(loss: Any) -> None:
    """Rows of different lengths: the mean over all is no mean of the batches' means by rows."""
    model = nn.Linear(1, 1)
    x, y = torch.randn(4, 3, 1), torch.randn(4, 3, 1)
    short = torch.randn(4, 2, 1), torch.randn(4, 2, 1)
    with torch.no_grad():
        parts = [loss(model(a), b) for a, b in ((x, y), short)]
    at = objective(model, loss, [(x, y), short])

    found = at.mean(lambda a, b: at.value([p.detach() for p in model.parameters()], a, b))

    assert float(found) == pytest.approx(float(parts[0] * 12 + parts[1] * 8) / 20, rel=1e-6)


def test_the_weights_are_those_at_creation() -> None:
    for data in ((X, Y), TWO):
        model = oracles.net(3, 5, 4)
        truth = oracles.dense_hessian(model, LOSS, (X, Y))
        operator = hessian(model, LOSS, data)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        torch.autograd.backward(functional.cross_entropy(model(X), Y))
        optimizer.step()

        assert torch.allclose(oracles.as_matrix(operator), truth, rtol=1e-4, atol=1e-6)
        assert operator.in_dtype is not None
        double = operator.in_dtype(torch.float64)
        assert torch.allclose(oracles.as_matrix(double), truth, rtol=1e-9, atol=1e-12)


def test_the_modes_are_those_at_creation() -> None:
    model = normed().eval()
    truth = oracles.dense_hessian(model, LOSS, (X, Y))
    for data in ((X, Y), TWO):
        operator = hessian(model.eval(), LOSS, data)
        model.train()
        assert operator.in_dtype is not None

        assert torch.allclose(oracles.as_matrix(operator), truth, rtol=1e-4, atol=1e-6)
        double = oracles.as_matrix(operator.in_dtype(torch.float64))
        assert torch.allclose(double, truth, rtol=1e-9, atol=1e-12)
        assert all(module.training for module in model.modules())


def loader(**options: Any) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True, **options)


def test_a_shuffling_loader_gives_the_hessian_of_all_and_draws_nothing() -> None:
    own = torch.Generator().manual_seed(3)
    model = oracles.net(3, 5, 4)
    truth = oracles.dense_hessian(model, LOSS, (X, Y))
    for data in (loader(), loader(generator=own)):
        before = torch.get_rng_state(), own.get_state()

        found = oracles.as_matrix(hessian(model, LOSS, data, dtype=torch.float64))

        assert torch.allclose(found, truth, rtol=1e-9, atol=1e-12)
        assert torch.equal(before[0], torch.get_rng_state())
        assert torch.equal(before[1], own.get_state())


def test_a_loader_that_drops_the_last_gives_the_same_batches_at_each_product() -> None:
    """Elsewise the examples left out would be others each time, and the operator no matrix."""
    v = torch.ones(44)
    for options in ({}, {"generator": torch.Generator().manual_seed(0)}):
        operator = hessian(oracles.net(3, 5, 4), LOSS, loader(drop_last=True, **options))

        first = operator @ v
        torch.rand(7)  # what a caller may do in between

        assert torch.equal(first, operator @ v)


def train_once(model: nn.Module) -> None:
    """Leave gradients, and advance the generator."""
    torch.manual_seed(3)
    torch.autograd.backward(functional.cross_entropy(model(X), Y))


ESTIMATES: dict[str, Callable[[nn.Module, Any], Any]] = {
    "hessian": lambda m, d: oracles.as_matrix(hessian(m, LOSS, d)),
    "gauss_newton": lambda m, d: oracles.as_matrix(gauss_newton(m, LOSS, d)),
    "fisher": lambda m, d: oracles.as_matrix(fisher(m, LOSS, d)),
    "top_eigenpairs": lambda m, d: top_eigenpairs(m, LOSS, d),
    "trace": lambda m, d: trace(hessian(m, LOSS, d), products=12),
    "spectral_density": lambda m, d: spectral_density(hessian(m, LOSS, d), probes=2, steps=8),
    "loss_landscape": lambda m, d: loss_landscape(m, LOSS, d, torch.ones(1, 54), [[0.0, 0.5]]),
}


@pytest.mark.parametrize("data", [(X, Y), TWO], ids=["one", "several"])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("name", ESTIMATES)
def test_the_model_is_not_modified(name: str, gradients: bool, data: Any) -> None:
    model = normed().eval()
    dropout = model[3].train()  # modes that model.train() would not give back
    assert isinstance(dropout, nn.Dropout)
    dropout.p = 0.0
    if gradients:
        train_once(model)
    before = oracles.snapshot(model)

    ESTIMATES[name](model, data)

    assert oracles.same(before, oracles.snapshot(model))


def test_the_model_is_unchanged_under_no_grad() -> None:
    model = oracles.net(3, 5, 4)
    truth = oracles.dense_hessian(model, LOSS, (X, Y))
    with torch.no_grad():
        for data in ((X, Y), TWO):
            assert torch.allclose(oracles.as_matrix(hessian(model, LOSS, data)), truth, rtol=1e-4, atol=1e-6)
        assert not torch.is_grad_enabled()


def test_a_model_that_raises_is_left_unchanged() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.fails = nn.Linear(3, 4), False

        def forward(self, x: Tensor) -> Tensor:
            if self.fails and len(x) == 3:
                raise RuntimeError("the third batch does not fit")
            return self.layer(x)  # type: ignore[no-any-return]

    model = Fails().eval()
    before = oracles.snapshot(model)
    operator = hessian(model, LOSS, loader())
    model.train()
    model.fails = True

    with pytest.raises(RuntimeError, match="third batch"):
        operator @ torch.ones(16)

    model.eval()
    assert oracles.same(before, oracles.snapshot(model))


def test_weights_of_a_loss_with_other_numbers_than_the_model_are_cast() -> None:
    weight = torch.rand(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = oracles.net(3, 5, 4)
    truth = oracles.dense_hessian(model, nn.CrossEntropyLoss(weight), (X, Y))

    found = oracles.as_matrix(hessian(model, nn.CrossEntropyLoss(weight), TWO))

    assert torch.allclose(found, truth, rtol=1e-4, atol=1e-6)


def test_vectors_are_cut_in_the_models_order() -> None:
    model = oracles.net(3, 5, 4)
    at = objective(model, LOSS, (X, Y))

    parts = at.unflatten(at.weights)

    assert at.dim == 44
    assert all(torch.equal(part, p) for part, p in zip(parts, model.parameters(), strict=True))
    assert all(part.data_ptr() != p.data_ptr() for part, p in zip(parts, model.parameters(), strict=True))


def test_a_loss_that_reads_the_models_parameters_is_an_error() -> None:
    """It would be computed with others in their place, and its part of the Hessian lost without a word."""
    model = nn.Linear(3, 2)

    def penalised(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets) + 0.1 * model.weight.square().sum()

    with pytest.raises(ValueError, match="the loss uses the model's weight directly"):
        objective(model, penalised, (torch.randn(4, 3), torch.tensor([0, 1, 0, 1])))
