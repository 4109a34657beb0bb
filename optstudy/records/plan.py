"""The plan of a run: everything that determines its numbers, and the run's key, a hash of it."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optstudy.errors import UsageError
from optstudy.records.forms import to_form

FORMAT = 3  # incremented when the code computes different numbers
# Of runs that format 3 computed without what is outside of state_dicts, or with other work or losses.
CORRECTED_FORMAT = 4


NEEDS = ("", "closure")  # what the step of an optimizer may take
MOST_EPOCHS, MOST_THREADS = 1_000_000, 1024  # far above any sensible value, to catch mistakes
_LARGEST = 2**63 - 1  # of torch's and numpy's numbers


@dataclass(frozen=True)
class Split:
    """How a data set is divided.

    ``tuning`` holds out part of the training set and never sees the test set. ``final`` holds out the test set,
    and ignores ``validation``.
    """

    role: Literal["tuning", "final"]
    validation: int = 0  # training images held out when tuning
    size: int = 0  # training images to use; 0 means all that are not held out
    seed: int = 0

    def __post_init__(self) -> None:
        if self.role not in ("tuning", "final"):
            raise UsageError(f"a split's role is tuning or final, not {self.role!r}")
        _check_range("a split's size", self.size, 0)
        _check_range("a split's seed", self.seed, 0)
        if self.validation < (self.role == "tuning"):
            raise UsageError(
                f"a split holds out {self.validation} examples for validation; hold out at least 1"
            )


@dataclass(frozen=True)
class Method:
    """How a run updates its parameters: an optimizer's class, its arguments, and what its step needs."""

    optimizer: str  # class path
    arguments: Mapping[str, Any]
    needs: str = ""  # what `step` takes: "closure" for a function that returns the loss; "" for nothing
    seeded: bool = False  # whether the run's seed is passed to the constructor as `seed`
    hessian_products: int = 0  # Hessian-vector products per step

    def __post_init__(self) -> None:
        if self.needs not in NEEDS:
            raise UsageError(f"a step needs {self.needs!r}; it must be one of {', '.join(map(repr, NEEDS))}")
        _check_range("hessian_products", self.hessian_products, 0)


@dataclass(frozen=True)
class Trace:
    """The steps of a run at which its curvature is measured, and the number of images."""

    samples: int | None  # training images; None for all
    last: int | None  # steps at the end of the run; None for all steps, 0 for none
    every: int = 1  # steps between measurements
    seed: int = 0  # of the sample of images

    def __post_init__(self) -> None:
        _check_range("a trace's samples", 1 if self.samples is None else self.samples, 1)
        _check_range("a trace's last", 0 if self.last is None else self.last, 0)
        _check_range("a trace's every", self.every, 1)
        _check_range("a trace's seed", self.seed, 0)


@dataclass(frozen=True)
class Plan:
    """Everything that determines the numbers of one run."""

    dataset: str
    split: Split
    model: str
    loss: str
    method: Method
    epochs: int
    sweep_epochs: tuple[int, ...]  # epochs that an exact sweep over the training set follows
    batch_size: int
    seed: int  # of the initial weights and the order of the batches: the same for every optimizer
    device: str = "cpu"
    threads: int = 1
    trace: Trace | None = None  # None if no curvature is measured
    deterministic: bool = False  # use deterministic algorithms, on a GPU too

    def __post_init__(self) -> None:
        _check_range("epochs", self.epochs, 0, MOST_EPOCHS)
        _check_range("batch_size", self.batch_size, 1)
        _check_range("seed", self.seed, 0)
        _check_range("threads", self.threads, 1, MOST_THREADS)
        for epoch in self.sweep_epochs:
            _check_range("an epoch of sweep_epochs", epoch, 1, MOST_EPOCHS)

    @property
    def references(self) -> tuple[str, ...]:
        """References that may refer to the user's own code."""
        return self.dataset, self.model, self.loss, self.method.optimizer


def _check_range(what: str, value: int, least: int, most: int = _LARGEST) -> None:
    if not least <= value <= most:
        raise UsageError(f"{what} is {value}; it must be {least:,} to {most:,}")


@dataclass(frozen=True)
class DatasetDescription:
    """Summary of a data set: its name, checksum, sizes and classes."""

    name: str  # its reference: mnist, data.py:load
    checksum: str  # SHA-256 over all tensors and the classes
    train: int  # examples
    test: int
    classes: tuple[str, ...]
    shape: tuple[int, ...]  # of one example
    dtype: str  # uint8, float32, ...


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Mini-batches in an epoch; the last may be short."""
    return math.ceil(images / batch_size)


def run_key(plan: Plan, torch_version: str, sources: Mapping[str, str], *, corrected: bool = False) -> str:
    """Return the key of a run, which begins with the format.

    Args:
        plan: The run's plan.
        torch_version: `torch.__version__`.
        sources: The user's source files by name, each with its hash.
        corrected: Whether earlier versions computed other numbers for it; see `Rehearsal`.
    """
    content = {"plan": to_form(plan), "torch": torch_version, "sources": dict(sources)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    return f"{CORRECTED_FORMAT if corrected else FORMAT}-{digest}"


def has_current_format(key: str) -> bool:
    """Whether a key has a current format."""
    return key.startswith((f"{FORMAT}-", f"{CORRECTED_FORMAT}-"))


def is_corrected(key: str) -> bool:
    """Whether a key has `CORRECTED_FORMAT`."""
    return key.startswith(f"{CORRECTED_FORMAT}-")
