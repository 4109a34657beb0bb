"""LeNet-5 by matrix products is LeNet-5 by layers; models and losses of the user's own are checked when made."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional

from optstudy.errors import UsageError
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.models import LeNet5, build_model, load_loss


class Layers(nn.Module):
    """LeNet-5 as its shape table reads, one layer after the other: the oracle of this file."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, classes)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(torch.tanh(self.conv1(x)))
        h = self.pool(torch.tanh(self.conv2(h)))
        h = torch.tanh(self.conv3(h)).flatten(1)
        outputs: Tensor = self.fc2(torch.tanh(self.fc1(h)))
        return outputs


def pair(channels: int = 1, classes: int = 10, dtype: torch.dtype = torch.float64) -> tuple[LeNet5, Layers]:
    """Return both networks with the same weights."""
    torch.manual_seed(0)
    model, layers = LeNet5(channels, classes), Layers(channels, classes)
    layers.load_state_dict(model.state_dict())
    return model.to(dtype), layers.to(dtype)


def batch(count: int, channels: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, channels, 32, 32, generator=generator, dtype=dtype)
    return images, torch.randint(0, 10, (count,), generator=generator)


def gradients(model: nn.Module, x: Tensor, y: Tensor, *, create_graph: bool = False) -> tuple[Tensor, ...]:
    value = functional.cross_entropy(model(x), y)
    return torch.autograd.grad(value, list(model.parameters()), create_graph=create_graph)


def hessian_product(model: nn.Module, x: Tensor, y: Tensor, vectors: list[Tensor]) -> tuple[Tensor, ...]:
    first = gradients(model, x, y, create_graph=True)
    return torch.autograd.grad(first, list(model.parameters()), vectors)


def dataset(shape: tuple[int, ...] = (1, 32, 32), classes: int = 10) -> Dataset:
    x, y = torch.zeros(classes, *shape, dtype=torch.uint8), torch.arange(classes)
    return Dataset(x, y, x, y, tuple(f"class {label}" for label in range(classes)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, and forget afterwards what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_outputs_and_gradients_are_those_of_the_layers(count: int, channels: int) -> None:
    model, layers = pair(channels)
    x, y = batch(count, channels)

    torch.testing.assert_close(model(x), layers(x), rtol=1e-12, atol=1e-13)
    for ours, theirs in zip(gradients(model, x, y), gradients(layers, x, y), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


def test_gradients_by_the_images_are_those_of_the_layers() -> None:
    model, layers = pair()
    x, _ = batch(2)
    x.requires_grad_()

    ours, theirs = (torch.autograd.grad(net(x).square().sum(), x)[0] for net in (model, layers))

    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


def test_saturated_units_give_what_the_layers_give() -> None:
    model, layers = pair()
    x, y = batch(3)
    x = 200 * (x - 0.5)  # tanh's arguments reach beyond 20, where it is 1 to the last bit

    torch.testing.assert_close(model(x), layers(x), rtol=1e-11, atol=1e-12)
    for ours, theirs in zip(gradients(model, x, y), gradients(layers, x, y), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_in_float32_outputs_are_as_near_to_float64_as_those_of_the_layers() -> None:
    model, layers = pair(dtype=torch.float32)
    x, _ = batch(64, dtype=torch.float32)
    exact = pair()[1](x.double())

    ours, theirs = ((net(x).double() - exact).abs().max() for net in (model, layers))

    assert ours < 3 * theirs
    assert ours < 1e-6


def test_twenty_steps_of_sgd_lose_what_the_layers_lose() -> None:
    def losses(model: nn.Module) -> list[float]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        generator, seen = torch.Generator().manual_seed(2), []
        for _ in range(20):
            x = torch.rand(20, 1, 32, 32, generator=generator)
            value = functional.cross_entropy(model(x), torch.arange(20) % 10)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            seen.append(value.item())
        return seen

    ours, theirs = (losses(model) for model in pair(dtype=torch.float32))

    assert ours == pytest.approx(theirs, rel=1e-6)


def test_hessian_products_are_those_of_the_layers() -> None:
    model, layers = pair()
    x, y = batch(4)
    vectors = [torch.randn_like(p) for p in model.parameters()]

    ours, theirs = hessian_product(model, x, y, vectors), hessian_product(layers, x, y, vectors)

    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_hessian_products_are_differences_of_gradients() -> None:
    model, _ = pair()
    x, y = batch(4)
    vectors = [torch.randn_like(p) for p in model.parameters()]
    products = hessian_product(model, x, y, vectors)
    step, at = 1e-4, []
    for sign in (1, -1):
        moved, _ = pair()
        with torch.no_grad():
            for p, v in zip(moved.parameters(), vectors, strict=True):
                p.add_(v, alpha=sign * step)
        at.append(gradients(moved, x, y))

    for product, ahead, behind in zip(products, *at, strict=True):
        # The difference errs by step squared times a third derivative, here of order 100.
        torch.testing.assert_close(product, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)


def test_gradients_of_single_images_by_vmap_are_those_taken_one_by_one() -> None:
    model, layers = pair()
    x, y = batch(5)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(model, parameters, (x[None],)), y[None])

    together = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)

    for index in range(5):
        alone = gradients(layers, x[index : index + 1], y[index : index + 1])
        for (name, _), expected in zip(layers.named_parameters(), alone, strict=True):
            torch.testing.assert_close(together[name][index], expected, rtol=1e-10, atol=1e-13)


def test_a_stack_of_models_by_vmap_gives_the_outputs_of_each() -> None:
    x, _ = batch(2)
    nets = [pair()[1], Layers().double()]
    stacked = {name: torch.stack([net.state_dict()[name] for net in nets]) for name in nets[0].state_dict()}
    model, _ = pair()

    outputs = vmap(lambda parameters: functional_call(model, parameters, (x,)))(stacked)

    torch.testing.assert_close(outputs, torch.stack([net(x) for net in nets]), rtol=1e-12, atol=1e-13)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own jvp still uses it
def test_forward_derivatives_are_the_gradient_along_the_direction() -> None:
    model, layers = pair()
    x, y = batch(3)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    direction = {name: torch.randn_like(p) for name, p in parameters.items()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(functional_call(model, parameters, (x,)), y)

    slope = jvp(loss, (parameters,), (direction,))[1]

    along = zip(gradients(layers, x, y), direction.values(), strict=True)
    torch.testing.assert_close(slope, sum((g * v).sum() for g, v in along), rtol=1e-10, atol=1e-13)


def test_parameters_have_the_names_and_shapes_of_the_layers() -> None:
    shapes = {name: tuple(p.shape) for name, p in LeNet5().named_parameters()}

    assert shapes == {name: tuple(p.shape) for name, p in Layers().named_parameters()}
    assert sum(p.numel() for p in LeNet5().parameters()) == 61_706


def test_the_state_holds_the_parameters_alone() -> None:
    model = LeNet5()

    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]


def test_the_same_seed_draws_the_same_weights_as_the_layers() -> None:
    torch.manual_seed(7)
    ours = LeNet5(channels=3, classes=5).state_dict()
    torch.manual_seed(7)
    theirs = Layers(channels=3, classes=5).state_dict()

    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_weights_in_another_memory_format_give_the_same_outputs() -> None:
    model, _ = pair()
    x, _ = batch(2)
    expected = model(x)

    turned = model.to(memory_format=torch.channels_last)

    assert torch.equal(turned(x.to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 32, 32), (1, 32, 32)])
def test_images_of_another_shape_are_refused_with_the_right_one(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"takes images of shape \(1, 32, 32\), not \("):
        LeNet5()(torch.zeros(shape))


def test_lenet5_adapts_to_channels_and_classes() -> None:
    model = build_model("lenet5", dataset((3, 32, 32), classes=7))

    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 32)])
def test_lenet5_refuses_data_of_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"images of 32 by 32, but the data set's examples have shape \("):
        build_model("lenet5", dataset(shape))


@pytest.mark.parametrize("name", ["make", "Net"])
def test_a_custom_model_comes_from_a_function_or_a_class(folder: Path, name: str) -> None:
    source = """
        from torch import nn
        class Net(nn.Module):
            pass
        def make():
            return Net()
    """
    (folder / "net.py").write_text("\n".join(line[8:] for line in source.splitlines()))

    model = build_model(f"net.py:{name}", dataset())

    assert type(model).__name__ == "Net"
    assert build_model(f"net.py:{name}", dataset()) is not model


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def make(): return 3",
            "net.py:make returned an object of type int; it must return a torch.nn.Module",
        ),
        ("def make(): pass", "net.py:make returned None; it must return a torch.nn.Module"),
        ("import torch\ndef make(): return torch.nn.ReLU", "returned the class ReLU; it must return"),
        ("import torch\nmake = torch.nn.ReLU()", "is a module; give a function that builds a new one"),
        ("def make(classes): pass", "missing 1 required positional argument: 'classes'"),
        ("make = 3", "net.py:make"),
    ],
)
def test_an_invalid_model_is_an_error(folder: Path, code: str, message: str) -> None:
    (folder / "net.py").write_text(code)

    with pytest.raises(UsageError, match=message):
        build_model("net.py:make", dataset())


def test_a_custom_loss_is_the_function_itself(folder: Path) -> None:
    (folder / "loss.py").write_text("def half(outputs, targets): return outputs.mean() / 2")

    assert load_loss("loss.py:half")(torch.ones(2, 2), torch.zeros(2)).item() == 0.5


def test_the_default_loss_is_the_mean_cross_entropy() -> None:
    outputs, targets = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])

    expected = (-torch.log_softmax(outputs, 1)[:, 0]).mean()

    torch.testing.assert_close(load_loss("cross_entropy")(outputs, targets), expected)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("name = 3", "loss loss.py:name is an object of type int; give a function of"),
        (
            "from torch.nn import CrossEntropyLoss as name",
            "is the class CrossEntropyLoss; give a function of",
        ),
    ],
)
def test_an_invalid_loss_is_an_error(folder: Path, code: str, message: str) -> None:
    (folder / "loss.py").write_text(code)

    with pytest.raises(UsageError, match=message):
        load_loss("loss.py:name")


@pytest.mark.parametrize(
    ("load", "name", "message"),
    [
        (
            lambda name: build_model(name, dataset()),
            "lenet",
            "model 'lenet' is not known [(]did you mean 'lenet5'",
        ),
        (lambda name: build_model(name, dataset()), "vit", "model 'vit' is not known; there is lenet5"),
        (load_loss, "cross_entrpy", "loss 'cross_entrpy' is not known [(]did you mean 'cross_entropy'"),
    ],
)
def test_the_error_of_an_unknown_name_has_the_known_one(
    load: Callable[[str], Any], name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load(name)
