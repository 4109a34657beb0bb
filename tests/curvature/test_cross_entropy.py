"""Cross-entropy's Hessian at the outputs in closed form, against two backward passes in float64."""

import functools
import itertools
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import gauss_newton
from optstudy.curvature.cross_entropy import cross_entropy_product
from optstudy.curvature.losses import Loss

CLASSES = 5
WEIGHT = torch.tensor([1.0, 3.0, 0.5, 0.1, 0.0], dtype=torch.float64)
SHAPES = [(7, CLASSES), (4, CLASSES, 3), (2, CLASSES, 3, 2), (CLASSES,)]


def by_two_backward_passes(loss: Loss, outputs: Tensor, targets: Any, tangents: Tensor) -> Tensor:
    leaf = outputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, targets), leaf, create_graph=True)
    return torch.autograd.grad(gradient, leaf, tangents)[0]


def losses() -> dict[str, Loss]:
    found: dict[str, Loss] = {"function": functional.cross_entropy}
    for weight, ignored, smoothing, reduction in itertools.product(
        (None, WEIGHT), (-100, 2), (0.0, 0.1), ("mean", "sum")
    ):
        options: dict[str, Any] = {
            "weight": weight,
            "ignore_index": ignored,
            "label_smoothing": smoothing,
            "reduction": reduction,
        }
        name = f"{'weights' if weight is not None else 'no weights'} {ignored} {smoothing} {reduction}"
        found[f"module {name}"] = nn.CrossEntropyLoss(**options)
        found[f"partial {name}"] = functools.partial(functional.cross_entropy, **options)
    return found


@pytest.mark.parametrize("name", losses())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("probabilities", [True, False], ids=["probabilities", "classes"])
def test_the_closed_form_is_the_hessian(name: str, shape: tuple[int, ...], probabilities: bool) -> None:
    generator, dim = torch.Generator().manual_seed(0), 1 if len(shape) > 1 else 0
    outputs, tangents = 3 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    targets = torch.rand(shape, generator=generator, dtype=torch.float64).softmax(dim)
    if not probabilities:
        targets = targets.argmax(dim)
    if not probabilities and targets.ndim and "-100" in name:
        targets[1] = -100
    loss = losses()[name.replace(" 2 ", " -100 ") if probabilities else name]  # torch refuses the others

    product = cross_entropy_product(loss, outputs, targets)

    assert product is not None
    truth = by_two_backward_passes(loss, outputs, targets, tangents)
    assert torch.allclose(product(tangents), truth, rtol=1e-12, atol=1e-14)


def test_classes_may_be_bytes() -> None:
    """Of which 156 is the -100 that is ignored elsewhere."""
    outputs, tangents = torch.randn(
        2, 3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    targets = torch.tensor([0, 156, 199], dtype=torch.uint8)

    product = cross_entropy_product(functional.cross_entropy, outputs, targets)

    assert product is not None
    truth = by_two_backward_passes(functional.cross_entropy, outputs, targets.long(), tangents)
    assert torch.allclose(product(tangents), truth, rtol=1e-12, atol=1e-14)


OTHERS: dict[str, Loss] = {
    "likelihood": nn.NLLLoss(),
    "square": nn.MSELoss(),
    "function of one's own": lambda z, y: functional.cross_entropy(z, y),  # noqa: PLW0108
    "older options": functools.partial(functional.cross_entropy, size_average=False),
    "positional options": functools.partial(functional.cross_entropy, torch.ones(2, CLASSES)),
    "subclass": type("Own", (nn.CrossEntropyLoss,), {})(),
}


@pytest.mark.parametrize("loss", OTHERS.values(), ids=OTHERS.keys())
def test_other_losses_are_differentiated_twice(loss: Loss) -> None:
    assert cross_entropy_product(loss, torch.ones(2, CLASSES), torch.tensor([0, 1])) is None


def test_a_loss_with_hooks_or_with_a_denominator_of_its_own_keeps_its_hessian() -> None:
    x, y = oracles.examples()
    hooked, declared = nn.CrossEntropyLoss(), nn.CrossEntropyLoss()
    hooked.register_forward_hook(lambda _, __, value: 2 * value)
    declared.denominator = len  # type: ignore[assignment]
    model = oracles.net(3, 5, 4)

    for loss in (hooked, declared):
        found = oracles.as_matrix(gauss_newton(model, loss, (x, y), dtype=torch.float64))

        assert oracles.near(found, oracles.dense_gauss_newton(model, loss, (x, y)))


def test_the_hessian_of_a_fitted_net_keeps_its_digits_in_float32() -> None:
    """Where one class has nearly all, p t - p (p . t) is a difference of nearly equal numbers."""
    outputs, tangents = (
        torch.tensor([[20.0, 0.0, -1.0], [0.0, -2.0, 25.0]]),
        torch.tensor([[3.0, 1.0, 2.0]] * 2),
    )
    targets = torch.tensor([0, 2])

    product = cross_entropy_product(functional.cross_entropy, outputs, targets)

    assert product is not None
    truth = by_two_backward_passes(functional.cross_entropy, outputs.double(), targets, tangents.double())
    assert torch.allclose(product(tangents).double(), truth, rtol=1e-4, atol=0)


def test_an_output_that_is_masked_has_no_curvature() -> None:
    outputs = torch.tensor([[1.0, -torch.inf, 2.0]], dtype=torch.float64)
    tangents, targets = torch.tensor([[1.0, 0.0, 3.0]], dtype=torch.float64), torch.tensor([0])

    product = cross_entropy_product(nn.CrossEntropyLoss(), outputs, targets)

    assert product is not None
    without = [0, 2]
    truth = by_two_backward_passes(
        functional.cross_entropy, outputs[:, without], targets, tangents[:, without]
    )
    assert torch.allclose(product(tangents)[:, without], truth, rtol=1e-12)
    assert product(tangents)[0, 1] == 0
