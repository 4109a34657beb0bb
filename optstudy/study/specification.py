"""The specification of a study: its keys as nested records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optstudy.errors import UsageError, suggestion
from optstudy.records.search import Objective
from optstudy.study.keys import KEYS


@dataclass(frozen=True)
class TuningSettings:
    """Settings of the search of each optimizer; see `KEYS`."""

    trials: int
    batch: int
    sampler: str
    startup_trials: int
    pruner: str
    objective: Objective
    tune_epochs: int
    rung_epochs: int
    tune_size: int
    finalists: int
    finalist_seeds: int
    validation: int

    @property
    def rounded_trials(self) -> int:
        """Number of trials, rounded up to whole batches."""
        return -(-self.trials // self.batch) * self.batch

    def rung_end(self, epoch: int) -> int:
        """Return the epoch at which the rung after ``epoch`` ends."""
        return min(epoch + self.rung_epochs, self.tune_epochs)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the final runs; see `KEYS`."""

    train_epochs: int
    train_size: int
    sweep_every: int
    seeds: int

    @property
    def sweep_epochs(self) -> tuple[int, ...]:
        """Epochs of a final run that end with an exact sweep; always includes the last."""
        last = self.train_epochs
        every = self.sweep_every or last
        return tuple(epoch for epoch in range(1, last + 1) if epoch % every == 0 or epoch == last)


@dataclass(frozen=True)
class CurvatureSettings:
    """Settings of the curvature measurements; see `KEYS`."""

    samples: int | str
    eigen_last: int | str
    eigen_every: int


@dataclass(frozen=True)
class Specification:
    """The specification of a study; see `KEYS`."""

    dataset: str
    model: str
    loss: str
    optimizers: tuple[str, ...]
    configs: tuple[str, ...]
    tuning: TuningSettings
    training: TrainingSettings
    curvature: CurvatureSettings
    batch_size: int
    margin: float
    target: float
    seed: int
    threads: int
    device: str
    deterministic: bool

    @classmethod
    def from_keys(cls, values: Mapping[str, Any]) -> "Specification":
        """Build a specification from the keys of presets; absent keys take their defaults.

        Raises:
            UsageError: If a key is unknown, or its value is invalid.
        """
        groups: dict[str, dict[str, Any]] = {"study": {}, "tuning": {}, "training": {}, "curvature": {}}
        checked = check_keys(values)
        for name, key in KEYS.items():
            groups[key.group][name] = checked.get(name, key.default)
        return cls(
            **groups["study"],
            tuning=TuningSettings(**groups["tuning"]),
            training=TrainingSettings(**groups["training"]),
            curvature=CurvatureSettings(**groups["curvature"]),
        )

    def to_keys(self) -> dict[str, Any]:
        """Return all keys and values, named as in presets."""
        values = vars(self) | vars(self.tuning) | vars(self.training) | vars(self.curvature)
        return {name: values[name] for name in KEYS}


def check_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Validate some keys of a specification, and return them with normalized values.

    Raises:
        UsageError: If a key is unknown, or its value is invalid.
    """
    for name in values:
        if name not in KEYS:
            raise UsageError(f"unknown key {name!r}{suggestion(name, KEYS)}")
    return {name: KEYS[name].check(value) for name, value in values.items()}
