"""An optimizer's scale and the curvature it bears, by hand and by watching it diverge."""

import math
from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import (
    has_preconditioner,
    hessian,
    preconditioned,
    preconditioner,
    stability,
    top_eigenpairs,
)
from optstudy.optimizers import AdaHessian

X, Y = oracles.examples()


def stepped(make: Callable[..., Any], steps: int = 3, **options: Any) -> tuple[nn.Module, Any, list[Tensor]]:
    """A net, its optimizer after some steps, and the gradients of all of them."""
    model = oracles.net(3, 5, 4).double()
    optimizer = make(model.parameters(), lr=0.01, **options)
    gradients = []
    for _ in range(steps):
        gradients.append(oracles.dense_gradient(model, functional.cross_entropy, (X, Y)))
        nn.utils.vector_to_parameters(
            nn.utils.parameters_to_vector(model.parameters()).detach(), model.parameters()
        )
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(X.double()), Y))
        optimizer.step()
    return model, optimizer, gradients


def averaged(squares: list[Tensor], beta: float) -> Tensor:
    """The exponential average of some squares, from zero."""
    v = torch.zeros_like(squares[0])
    for square in squares:
        v = beta * v + (1 - beta) * square
    return v


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW])
def test_scale_of_adam_holds_both_corrections(make: Any) -> None:
    model, optimizer, gradients = stepped(make, betas=(0.8, 0.95), eps=1e-3)

    v = averaged([g**2 for g in gradients], 0.95) / (1 - 0.95**3)
    expected = (1 - 0.8**3) * (v.sqrt() + 1e-3)

    assert torch.allclose(preconditioner(optimizer, model), expected, rtol=1e-10)


def test_scale_of_amsgrad_is_of_the_largest_average() -> None:
    model, optimizer, gradients = stepped(torch.optim.Adam, betas=(0.8, 0.5), eps=1e-3, amsgrad=True)
    averages = [averaged([g**2 for g in gradients[: t + 1]], 0.5) for t in range(3)]

    expected = (1 - 0.8**3) * ((torch.stack(averages).amax(0) / (1 - 0.5**3)).sqrt() + 1e-3)

    assert torch.allclose(preconditioner(optimizer, model), expected, rtol=1e-10)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_scale_of_adagrad_is_of_the_sum_and_of_its_decay(decay: float) -> None:
    model, optimizer, gradients = stepped(torch.optim.Adagrad, lr_decay=decay, initial_accumulator_value=0.2)

    root = (torch.stack(gradients).square().sum(0) + 0.2).sqrt() + 1e-10

    assert torch.allclose(preconditioner(optimizer, model), (1 + 2 * decay) * root, rtol=1e-10)


@pytest.mark.parametrize("centered", [False, True])
def test_scale_of_rmsprop_is_of_the_average(centered: bool) -> None:
    model, optimizer, gradients = stepped(torch.optim.RMSprop, alpha=0.7, eps=1e-3, centered=centered)
    v, mean = averaged([g**2 for g in gradients], 0.7), averaged(gradients, 0.7)

    expected = (v - mean**2 if centered else v).sqrt() + 1e-3

    assert torch.allclose(preconditioner(optimizer, model), expected, rtol=1e-8)


def test_a_step_is_the_rate_times_the_scaled_average() -> None:
    """The scale's definition, whatever the optimizer keeps: what it moved, against its average gradient."""
    model, optimizer, gradients = stepped(torch.optim.Adam, steps=4, betas=(0.8, 0.95))
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    gradients.append(oracles.dense_gradient(model, functional.cross_entropy, (X, Y)))
    optimizer.zero_grad()
    torch.autograd.backward(functional.cross_entropy(model(X.double()), Y))
    optimizer.step()
    moved = before - nn.utils.parameters_to_vector(model.parameters()).detach()

    m = averaged(gradients, 0.8)

    assert torch.allclose(moved, 0.01 * m / preconditioner(optimizer, model), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_scale_of_adahessian_is_shared_inside_a_kernel(power: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
    x, y = torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 3
    optimizer = AdaHessian(model.parameters(), lr=0.01, betas=(0.8, 0.9), eps=1e-3, hessian_power=power)
    before = torch.zeros(0)
    for _ in range(2):
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        optimizer.step(lambda: functional.cross_entropy(model(x), y))
    moved = before - nn.utils.parameters_to_vector(model.parameters()).detach()
    m = torch.cat([optimizer.state[p]["exp_avg"].flatten() for p in model.parameters()])

    scale = preconditioner(optimizer, model)

    assert torch.allclose(moved, 0.01 * m / scale, rtol=1e-8, atol=1e-12)
    kernel = scale[:18].view(2, 9)
    assert torch.equal(kernel, kernel[:, :1].expand_as(kernel))


def test_parameters_are_chosen_as_for_the_operators() -> None:
    model, optimizer, _ = stepped(torch.optim.Adam)

    part = preconditioner(optimizer, model, "2.*")

    assert torch.equal(part, preconditioner(optimizer, model)[20:])
    operator = hessian(model, functional.cross_entropy, (X.double(), Y), parameters="2.*")
    assert preconditioned(operator, part).dim == 24


@pytest.mark.parametrize("name", ["SGD", "Adadelta", "NAdam", "RAdam", "Adamax", "Rprop"])
def test_an_optimizer_without_a_preconditioner_is_an_error(name: str) -> None:
    model, optimizer, _ = stepped(getattr(torch.optim, name))

    assert not has_preconditioner(optimizer, model)
    with pytest.raises(ValueError, match=f"{name} has no known preconditioner for 0.weight"):
        preconditioner(optimizer, model)


@pytest.mark.parametrize("name", ["Adam", "Adagrad", "RMSprop"])
def test_before_the_first_step_there_is_no_preconditioner(name: str) -> None:
    model, optimizer, _ = stepped(getattr(torch.optim, name), steps=0)

    assert not has_preconditioner(optimizer, model)
    with pytest.raises(ValueError, match="take a step first"):
        preconditioner(optimizer, model)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adagrad", "RMSprop"])
def test_after_a_step_there_is_a_preconditioner(name: str) -> None:
    model, optimizer, _ = stepped(getattr(torch.optim, name), steps=1)

    assert has_preconditioner(optimizer, model)


def test_without_a_step_of_every_parameter_there_is_no_preconditioner() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 4), "spare": nn.Linear(2, 2)})
    optimizer = torch.optim.Adam(model.parameters())
    torch.autograd.backward(functional.cross_entropy(model["used"](X), Y))
    optimizer.step()

    assert not has_preconditioner(optimizer, model)
    assert has_preconditioner(optimizer, model, "used.*")
    assert len(preconditioner(optimizer, model, "used.*")) == 16


def test_a_parameter_of_another_optimizer_is_an_error() -> None:
    model, optimizer, _ = stepped(torch.optim.Adam)

    with pytest.raises(ValueError, match="0.weight is not among"):
        preconditioner(optimizer, oracles.net(3, 5, 4))
    assert model is not None


ONE = [torch.zeros(1)]
THRESHOLDS = [
    (torch.optim.SGD(ONE, lr=0.1), 20.0, False),
    (torch.optim.SGD(ONE, lr=0.1, momentum=0.9), 38.0, False),
    (torch.optim.SGD(ONE, lr=0.1, momentum=0.9, nesterov=True), 38.0 / 2.8, False),
    (torch.optim.Adam(ONE, lr=0.1, betas=(0.9, 0.99)), 380.0, True),
    (torch.optim.AdamW(ONE, lr=0.1, betas=(0.5, 0.99)), 60.0, True),
    (AdaHessian(ONE, lr=0.1, betas=(0.9, 0.99)), 380.0, True),
    (torch.optim.Adagrad(ONE, lr=0.1), 20.0, True),
    (torch.optim.RMSprop(ONE, lr=0.1), 20.0, True),
    (torch.optim.RMSprop(ONE, lr=0.1, momentum=0.5), 30.0, True),
    (torch.optim.SGD(ONE, lr=0.0), math.inf, False),
]


@pytest.mark.parametrize(("optimizer", "threshold", "scaled"), THRESHOLDS)
def test_threshold_is_that_of_the_formula(
    optimizer: torch.optim.Optimizer, threshold: float, scaled: bool
) -> None:
    found = stability(optimizer)

    assert found is not None
    assert found.threshold == pytest.approx(threshold)
    assert found.preconditioned == scaled


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.SGD(ONE, lr=0.1, momentum=0.9, dampening=0.1),
        torch.optim.NAdam(ONE),
        torch.optim.RAdam(ONE),
        torch.optim.Adadelta(ONE),
        torch.optim.LBFGS(ONE),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_threshold_is_none_for_unknown_optimizers(optimizer: torch.optim.Optimizer) -> None:
    assert stability(optimizer) is None


def frozen_adam(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adam whose scale stays at 2: an average of squares that hardly moves, corrections that are over."""
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 1 - 1e-12), eps=0.0, **options)
    for p in parameters:
        v = torch.full_like(p, 4.0)
        optimizer.state[p] = {"step": torch.tensor(1e15), "exp_avg": torch.zeros_like(p), "exp_avg_sq": v}
    return optimizer


def frozen_rmsprop(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """RMSprop whose scale stays at 2."""
    optimizer = torch.optim.RMSprop(parameters, alpha=1.0, eps=0.0, momentum=0.5, **options)
    for p in parameters:
        optimizer.state[p] = {
            "step": torch.tensor(1.0),
            "square_avg": torch.full_like(p, 4.0),
            "momentum_buffer": torch.zeros_like(p),
        }
    return optimizer


def frozen_adagrad(parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """AdaGrad whose scale stays at 1e8, as the squares that it adds are of size 1 or so."""
    return torch.optim.Adagrad(parameters, initial_accumulator_value=1e16, **options)


RUNS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "gradient descent": torch.optim.SGD,
    "heavy ball": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True),
    "adam": frozen_adam,
    "rmsprop": frozen_rmsprop,
    "adagrad": frozen_adagrad,
    "adahessian": lambda p, lr: AdaHessian(p, lr=lr, betas=(0.9, 0.999), eps=0.0),
}


@pytest.mark.parametrize("relative", [0.98, 1.02])
@pytest.mark.parametrize("name", RUNS)
def test_steps_shrink_just_below_the_threshold_and_grow_just_above(name: str, relative: float) -> None:
    """Full-batch steps on a quadratic whose first eigenvalue, as the optimizer meets it, lies 2 % beside it."""
    model = oracles.Quadratic(torch.full((2,), 1e-4, dtype=torch.float64))

    matrix = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64))
    loss, slow = oracles.quadratic_loss(matrix), 1e-6
    optimizer = RUNS[name]([model.weights], lr=slow)
    for _ in range(300):  # until Adam's and AdaHessian's corrections are over
        step(optimizer, model, loss)
    found, operator = stability(optimizer), hessian(model, loss, oracles.NOTHING)
    assert found is not None
    if found.preconditioned:
        operator = preconditioned(operator, preconditioner(optimizer, model))
    first = float(top_eigenpairs(operator, k=1).values[0])
    # The threshold is inverse in the rate, so one says which other puts the eigenvalue beside it.
    optimizer.param_groups[0]["lr"] = relative * slow * found.threshold / first
    again = stability(optimizer)
    assert again is not None
    assert first == pytest.approx(relative * again.threshold)

    for _ in range(2000):
        size = step(optimizer, model, loss)
        if not 1e-10 < size < 1e2:  # a million times smaller or larger: no swing of the averages does that
            break

    assert size > 1e2 if relative > 1 else size < 1e-10


def step(
    optimizer: torch.optim.Optimizer, model: oracles.Quadratic, loss: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """Take a step, and return how large the weights are then."""

    def closure() -> Any:
        return loss(model(oracles.NOTHING[0]), oracles.NOTHING[1])

    if isinstance(optimizer, AdaHessian):
        optimizer.step(closure)
    else:
        optimizer.zero_grad()
        torch.autograd.backward(closure())
        optimizer.step()
    return float(model.weights.detach().abs().max())
