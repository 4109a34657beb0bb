"""Every packaged optimizer as a study makes it: from its space file, on a small convolutional net."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.errors import UsageError
from optstudy.optimizers import AdaHessian, build_optimizer, find_spaces, load_space
from optstudy.records.space import Space

NOWHERE = Path("no-such-workspace")  # only the packaged spaces
PACKAGED = sorted(find_spaces(NOWHERE))
SPACES = [load_space(name, NOWHERE) for name in PACKAGED]


def convnet(memory_format: torch.memory_format = torch.contiguous_format) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3))
    net = nn.Sequential(*layers)
    for weights in net.parameters():
        if weights.dim() == 4:
            weights.data = weights.data.contiguous(memory_format=memory_format)
    return net


def made(space: Space, net: nn.Module, config: dict[str, object]) -> torch.optim.Optimizer:
    seed = 0 if space.seeded else None
    return build_optimizer(space.optimizer, space.arguments(config), net.parameters(), seed)


def step(space: Space, net: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """One step as the space says that it is taken; returns the loss before it."""
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.rand(6, 3, 8, 8, generator=generator), torch.arange(6) % 3

    def loss() -> Tensor:
        return functional.cross_entropy(net(images), labels)

    if space.needs == "closure":
        return float(optimizer.step(loss))  # type: ignore[arg-type]  # torch's closures return floats
    optimizer.zero_grad()
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
    return value.item()


@pytest.mark.parametrize("space", SPACES, ids=PACKAGED)
def test_every_packaged_optimizer_lowers_the_loss_with_its_default(space: Space) -> None:
    net = convnet()
    optimizer = made(space, net, space.config("default"))

    losses = [step(space, net, optimizer) for _ in range(4)]

    assert losses[1] < losses[0]


@pytest.mark.parametrize("space", SPACES, ids=PACKAGED)
def test_the_declared_defaults_are_the_librarys_own(space: Space) -> None:
    net = convnet()
    bare = build_optimizer(space.optimizer, {}, net.parameters(), seed=None)
    declared = made(space, net, space.config("default"))

    assert declared.defaults == bare.defaults


def test_a_seeded_optimizer_gets_the_runs_seed() -> None:
    space = load_space("adahessian", NOWHERE)
    built = build_optimizer(
        space.optimizer, space.arguments(space.config("paper")), convnet().parameters(), seed=5
    )

    assert isinstance(built, AdaHessian)
    assert built.state_dict()["generators"]["cpu"].equal(torch.Generator().manual_seed(5).get_state())
    assert built.defaults == {
        "lr": 0.1,
        "betas": (0.1, 0.1),
        "eps": 1e-4,
        "weight_decay": 1e-4,
        "hessian_power": 0.5,
    }


@pytest.mark.parametrize(
    ("class_path", "arguments", "message"),
    [
        (
            "torch.optim.SGD",
            {"betas": 1},
            "torch.optim.SGD rejects betas=1: .*unexpected keyword argument 'betas'",
        ),
        ("torch.optim.SGD", {"lr": -1.0}, "torch.optim.SGD rejects lr=-1.0: Invalid learning rate"),
        ("torch.optim.SGDD", {}, "SGDD"),
        (
            "torch.pi",
            {},
            "torch.pi is 3.14.*; give a subclass of torch.optim.Optimizer, or a function of a file",
        ),
        ("builtins.list", {}, "builtins.list is <class 'list'>; give a subclass of torch.optim.Optimizer"),
        ("torch.optim.swa_utils:AveragedModel", {}, "give a subclass of torch.optim.Optimizer"),
    ],
)
def test_an_optimizer_that_cannot_be_built_is_a_one_line_error(
    class_path: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        build_optimizer(class_path, arguments, [nn.Parameter(torch.ones(1))], seed=None)

    assert "\n" not in str(caught.value)


def test_a_function_of_an_installed_package_is_not_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="print is <built-in function print>; give a subclass"):
        build_optimizer("builtins.print", {}, [nn.Parameter(torch.ones(1))], seed=None)

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["make", "bound"])
def test_a_function_of_the_users_own_may_build_the_optimizer(name: str, user_files: Path) -> None:
    (user_files / "mine.py").write_text(
        "import functools, torch\n\n\ndef make(parameters, **arguments):\n"
        "    return torch.optim.SGD(parameters, **arguments)\n\n\nbound = functools.partial(make, momentum=0.5)\n"
    )

    built = build_optimizer(f"mine.py:{name}", {"lr": 0.1}, [nn.Parameter(torch.ones(1))], seed=None)

    assert isinstance(built, torch.optim.SGD)
