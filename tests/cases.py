"""Tiny models, data and plans that tests share."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from optstudy.optimizers import find_spaces, load_space
from optstudy.records.plan import DatasetDescription, Method, Plan, Split
from optstudy.records.run import EpochRecord, Rung
from optstudy.records.space import Space
from optstudy.training import Rehearsal

HERE = Path(__file__).parent  # a workspace without files of its own
TRAIN, TEST, BATCH = 200, 60, 64  # the last batch has 8 images

DATA = f"""
import torch
from optstudy.data import Dataset

def load():
    draws = torch.Generator().manual_seed(0)
    pattern = torch.randint(0, 200, (4, 1, 8, 8), generator=draws)

    def part(n):
        labels = torch.arange(n) % 4
        noise = torch.randint(0, 56, (n, 1, 8, 8), generator=draws)
        return (pattern[labels] + noise).to(torch.uint8), labels

    return Dataset(*part({TRAIN}), *part({TEST}), ("a", "b", "c", "d"))
"""

DESCRIPTION = DatasetDescription("data.py:load", "0", TRAIN, TEST, ("a", "b", "c", "d"), (1, 8, 8), "uint8")
REHEARSAL = Rehearsal(
    train_images=TRAIN,
    heldout_images=TEST,
    parameters=196,
    state_bytes=1000,
    step_seconds=0.1,
    evaluation_seconds=0.01,
    sweep_seconds=0.02,
)

NET = """
import torch
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.3), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(36, 4),
    )

class Lost(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = make()

    def forward(self, x):
        return self.inner(x) * torch.nan

def narrow():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 4))

def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

def deep():
    return nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64) for _ in range(3)), nn.Linear(64, 4))

def empty():
    return nn.Flatten()

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return (slope * (1 - x.tanh() ** 2)).detach()

class Rough(nn.Module):
    def forward(self, x):
        return Once.apply(x)

def once():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Rough(), nn.Linear(8, 4))

class Noise(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)

def noisy():
    return nn.Sequential(nn.Flatten(), Noise(), nn.Linear(64, 4))

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.scale * x.flatten(1)[:, :4]

def each(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")

def squares(outputs, targets):
    return (outputs - targets).square().mean()
"""


@contextlib.contextmanager
def project(folder: Path) -> Iterator[None]:
    """Write a user's data.py and net.py, work in that folder, and forget it afterwards."""
    (folder / "data.py").write_text(DATA)
    (folder / "net.py").write_text(NET)
    path = [*sys.path]
    with contextlib.chdir(folder):
        try:
            yield
        finally:
            sys.path[:] = path


def spaces() -> list[Space]:
    """Return the space of every packaged optimizer."""
    return [load_space(name, HERE) for name in find_spaces(HERE)]


def method(space: Space, params: Mapping[str, Any] | None = None) -> Method:
    """Return how an optimizer trains, by default with its library's values."""
    arguments = space.arguments(params or space.default)
    return Method(space.optimizer, arguments, space.needs, space.seeded, space.hessian_products)


def sgd(lr: float = 0.1) -> Method:
    """Return plain gradient descent."""
    return Method("torch.optim.SGD", {"lr": lr})


def plan(**changes: Any) -> Plan:
    """Return two epochs of gradient descent on the tiny data, the second with an exact sweep."""
    tiny = Plan(
        dataset="data.py:load",
        split=Split("final"),
        model="net.py:make",
        loss="cross_entropy",
        method=sgd(),
        epochs=2,
        sweep_epochs=(2,),
        batch_size=BATCH,
        seed=0,
    )
    return replace(tiny, **changes)


def bits(value: Any) -> Any:
    """Return a value with each tensor as its type, shape and bytes, so that == compares to the bit."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().numpy().tobytes()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: bits(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: bits(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    return value


def timeless(records: tuple[EpochRecord, ...]) -> list[EpochRecord]:
    """Return records without their clock readings."""
    return [replace(record, seconds=0.0, finished_at=0.0) for record in records]


def rung_bits(*rungs: Rung) -> Any:
    """Return what consecutive rungs hold together, clock readings apart."""
    epochs = [record for rung in rungs for record in timeless(rung.epochs)]
    observations = [seen for rung in rungs for seen in rung.observations]
    return bits((epochs, observations, rungs[-1].predicted))
