"""Curvature is computed in IEEE float32, whatever precision of products the user has chosen for training."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import fisher, gauss_newton, hessian
from optstudy.curvature.ieee import ON_CUDA, ieee_float32

X, Y = oracles.examples()
CPU, CUDA = torch.device("cpu"), torch.device("cuda")  # the settings of CUDA exist without it


def setting(backend: str, operation: str) -> str:
    return torch._C._get_fp32_precision_getter(backend, operation)


def choose(value: str, *keys: tuple[str, str]) -> None:
    for backend, operation in keys:
        torch._C._set_fp32_precision_setter(backend, operation, value)


def settings() -> list[str]:
    return [setting(*key) for key in ON_CUDA]


def is_ieee(device: str) -> bool:
    backend = "cuda" if device == "cuda" else "mkldnn"
    kinds = ("none", "ieee") if backend == "mkldnn" else ("ieee",)
    return all(setting(backend, operation) in kinds for operation in ("matmul", "conv", "rnn"))


CHOICES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "all": lambda: choose("tf32", ("generic", "all")),
    "oneDNN": lambda: choose("bf16", ("mkldnn", "all")),
    "products": lambda: choose("bf16", ("mkldnn", "matmul")),
    "products of both": lambda: choose("tf32", ("mkldnn", "matmul"), ("cuda", "matmul")),
    "all and convolutions": lambda: choose("tf32", ("generic", "all"), ("mkldnn", "conv")),
    "cuDNN": lambda: choose("tf32", ("cuda", "all")),
    "the older interface": lambda: torch.set_float32_matmul_precision("medium"),
}
EVERY_CHOICE = pytest.mark.parametrize("chosen", CHOICES.values(), ids=CHOICES.keys())


@pytest.fixture(autouse=True)
def restored_settings() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    for backend, operation in ON_CUDA:
        if (backend, operation) not in (("cuda", "conv"), ("cuda", "rnn")):  # their default cannot be set
            choose("none", (backend, operation))


@EVERY_CHOICE
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize("fails", [False, True])
def test_products_are_in_ieee_float32_inside_and_as_chosen_afterwards(
    chosen: Callable[[], Any], device: torch.device, fails: bool
) -> None:
    chosen()
    before = settings()

    with contextlib.suppress(KeyError), ieee_float32(device):
        assert is_ieee(device.type)
        if fails:
            raise KeyError

    assert settings() == before


@EVERY_CHOICE
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_what_inherited_a_setting_goes_on_inheriting_it(
    chosen: Callable[[], Any], device: torch.device
) -> None:
    chosen()
    before = setting("generic", "all")
    choose("ieee", ("generic", "all"))
    expected = settings()
    choose(before, ("generic", "all"))

    with ieee_float32(device):
        pass

    choose("ieee", ("generic", "all"))
    assert settings() == expected


class Recording(nn.Module):
    """A net that records whether its forward pass and its backward passes run in IEEE float32."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.seen: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(is_ieee("cpu"))
        outputs: Tensor = self.layer(x).tanh()
        if outputs.requires_grad:
            outputs.register_hook(lambda _: self.seen.append(is_ieee("cpu")))  # type: ignore[no-untyped-call]
        return outputs


@EVERY_CHOICE
@pytest.mark.parametrize("make", [hessian, gauss_newton, fisher])
@pytest.mark.parametrize("sizes", [(13,), (6, 7)], ids=["one", "several"])
def test_forward_passes_and_products_of_a_model_run_in_ieee_float32(
    chosen: Callable[[], Any], make: Callable[..., Any], sizes: tuple[int, ...]
) -> None:
    model = Recording()
    chosen()
    before = settings()

    operator = make(model, functional.cross_entropy, oracles.chunks((X, Y), *sizes))
    forward = len(model.seen)
    operator @ torch.ones(operator.dim)

    assert len(model.seen) > forward > 0
    assert all(model.seen)
    assert settings() == before


def test_a_loss_runs_in_ieee_float32() -> None:
    seen = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(is_ieee("cpu"))
        return functional.cross_entropy(outputs, targets)

    choose("bf16", ("mkldnn", "matmul"))

    for make in (hessian, gauss_newton):
        make(nn.Linear(3, 4), loss, (X, Y))

    assert all(seen)


def test_a_model_on_the_cpu_may_call_the_flags_of_cudnn() -> None:
    """The usual way to differentiate recurrent layers twice."""

    class Flags(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            with torch.backends.cudnn.flags(enabled=False):
                return super().forward(x)

    assert hessian(Flags(3, 4), functional.cross_entropy, (X, Y)).dim == 16


def test_the_scope_costs_microseconds() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(100):
            with ieee_float32(CUDA):
                pass
        return (time.perf_counter() - start) / 100

    assert min(seconds() for _ in range(5)) < 1e-4  # some 5e-6
