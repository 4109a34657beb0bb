"""What a study is made of: the keys of a preset, and what each may be."""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optstudy.errors import UsageError, nearest
from optstudy.optimizers.catalogue import tuning_files

CONFIGS = ("best", "paper", "default")
SAMPLERS = ("tpe", "gp", "random", "qmc")
PRUNERS = ("median", "hyperband", "none")
OBJECTIVES = ("accuracy", "loss")

GROWING = ("optimizers", "configs", "trials", "seeds")  # may be added to at any time
# Free until the work that they govern has begun. Every other key is fixed with the study.
TUNING_KEYS = (
    "trials", "batch", "sampler", "startup_trials", "pruner", "objective",
    "tune_epochs", "rung_epochs", "finalists", "finalist_seeds", "tune_size", "validation",
)  # fmt: skip
TRAINING_KEYS = (
    "train_epochs", "train_size", "sweep_every", "seeds", "samples", "eigen_last", "eigen_every",
)  # fmt: skip
OR_ALL = ("samples", "eigen_last")  # a whole number, or "all"


@dataclass(frozen=True)
class Specification:
    """What a study is made of; a preset file has the same keys."""

    dataset: str = "mnist"
    model: str = "lenet5"
    loss: str = "cross_entropy"
    optimizers: tuple[str, ...] = ("sgd", "adagrad", "adam", "adahessian")
    configs: tuple[str, ...] = ("best",)
    trials: int = 8  # configurations tried for each optimizer
    batch: int = 4  # trials asked together
    sampler: str = "tpe"
    startup_trials: int = 4  # drawn at random before the sampler learns; the paper's and the default count
    pruner: str = "median"
    objective: str = "accuracy"  # of the validation images
    tune_epochs: int = 3
    rung_epochs: int = 1  # epochs of a trial between two decisions to prune
    tune_size: int = 0  # training images of a trial, a fixed stratified subset; 0 is all but the validation
    finalists: int = 1  # best trials that are trained again before one is chosen; 1 chooses at once
    finalist_seeds: int = 3  # from which each of them is
    validation: int = 10_000  # images held out of the training set while tuning
    train_epochs: int = 3
    train_size: int = 0  # training images of a final run, a fixed stratified subset; 0 is all
    sweep_every: int = 0  # epochs between exact sweeps over the training set; 0 is at the end only
    samples: int | str = 100  # training images on which curvature is measured, or "all"; 0 measures none
    eigen_last: int | str = 100  # steps at the end of a final run whose eigenvalues are followed, or "all"
    eigen_every: int = 1  # steps from one to the next
    batch_size: int = 100
    seeds: int = 3
    margin: float = 0.001  # of test accuracy, a fraction: closer optimizers count as equivalent
    target: float = 0.97  # test accuracy, a fraction: how soon a run reaches it is recorded
    seed: int = 0  # of the split, the sampler and the trials
    threads: int = 1  # of a worker
    device: str = "cpu"
    deterministic: bool = False  # algorithms that give the same bits each time, on a GPU too

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            problem = _problem(field.name, getattr(self, field.name), type(field.default))
            if problem:
                raise UsageError(problem)
        for name in ("optimizers", "configs"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))

    @property
    def sweep_epochs(self) -> tuple[int, ...]:
        """Epochs of a final run that end with an exact sweep; the last always does."""
        every = self.sweep_every or self.train_epochs
        return tuple(e for e in range(1, self.train_epochs + 1) if e % every == 0 or e == self.train_epochs)


KEYS = tuple(field.name for field in dataclasses.fields(Specification))
_MINIMUM = dict.fromkeys(
    ("trials", "batch", "tune_epochs", "rung_epochs", "finalists", "finalist_seeds", "validation",
     "train_epochs", "batch_size", "seeds", "threads", "eigen_every"), 1,
)  # fmt: skip
# Far above what anybody runs: what exceeds them is a slip of the hand. From 1000 on seeds are those of trials.
LARGEST = {
    "trials": 100_000, "batch": 100_000, "tune_epochs": 1_000_000, "rung_epochs": 1_000_000,
    "train_epochs": 1_000_000, "finalists": 1_000, "finalist_seeds": 1_000, "seeds": 1_000,
    "seed": 2**31 - 1, "threads": 1024,
}  # fmt: skip
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "sampler": SAMPLERS,
    "pruner": PRUNERS,
    "objective": OBJECTIVES,
    "configs": CONFIGS,
}


def _problem(key: str, value: Any, kind: type) -> str | None:
    """Say what is wrong with a key's value, if anything."""
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind and not (key in OR_ALL and value == "all"):
        wanted = {
            int: "a whole number" + ' or "all"' * (key in OR_ALL),
            float: "a number",
            str: "a string",
            tuple: "a list of names",
            bool: "true or false",
        }[kind]
        return f"{key} is {value!r}; it must be {wanted}"
    if isinstance(value, int | float):
        return None if kind is bool else _problem_of_number(key, value)
    names = value if isinstance(value, tuple) else (value,)
    if not names:
        return f"{key} is empty; name at least one"
    for name in names:
        if type(name) is not str or not name:
            return f"{key} has {name!r}; it must be a name"
        allowed = _ALLOWED.get(key)
        if allowed and name not in allowed:
            return f"{key} is {name!r}; it must be {_either(allowed)}{nearest(name, allowed)}"
    return None


def _problem_of_number(key: str, value: float) -> str | None:
    if isinstance(value, float):
        return None if 0 < value < 1 else f"{key} is {value:g}; it must be a fraction between 0 and 1"
    least, most = _MINIMUM.get(key, 0), LARGEST.get(key, value)
    if value < least:
        return f"{key} is {value}; it must be {least} or more"
    return f"{key} is {value}; it must be {most} or less" if value > most else None


def read_preset(name: str, workspace: Path) -> dict[str, Any]:
    """Return the keys of a preset, the workspace's own before the packaged one.

    Raises:
        UsageError: If there is none of that name, or the file does not say what a study is.
    """
    found = tuning_files("presets", workspace)
    if name not in found:
        raise UsageError(f"no preset {name!r}{nearest(name, found)}; there are {', '.join(found)}")
    path = found[name]
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    return check_keys(values, where=f"{path}: ")


def check_keys(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return ``values`` as a Specification takes them.

    Raises:
        UsageError: If a key is unknown or its value is not of the key's kind.
    """
    for key in values:
        if key not in KEYS:
            raise UsageError(f"{where}unknown key {key!r}{nearest(key, KEYS)}")
    ready: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        Specification(**ready)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None
    return ready


_READERS: Mapping[type, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (float, "a number"),
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
}


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``key=value`` as given to ``--set``; lists are separated by commas."""
    key, separator, value = text.partition("=")
    if not separator and key in KEYS:
        raise UsageError(f"--set {text!r} lacks a value; write --set {key}=VALUE")
    if key not in KEYS:
        known = nearest(key, KEYS) or f"; the keys are {', '.join(KEYS)}"
        raise UsageError(f"--set {text!r} is not key=value with a key of a study{known}")
    kind = type(getattr(Specification, key))
    if kind is tuple:
        return key, tuple(value.split(","))
    if key in OR_ALL and value == "all":
        return key, value
    if kind is str:
        return key, value
    read, wanted = _READERS[kind]
    try:
        return key, read(value)
    except (ValueError, KeyError):
        wanted += " or all" * (key in OR_ALL)
        raise UsageError(f"--set {text!r}: {key} must be {wanted}") from None


def _either(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}"
