"""The specification of a study: nested records in the code, flat keys in presets and `--set`."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from optstudy.errors import UsageError, nearest
from optstudy.records.naming import CONFIGS
from optstudy.records.search import Objective

SAMPLERS = ("tpe", "gp", "random", "qmc")
PRUNERS = ("median", "hyperband", "none")
OBJECTIVES = ("accuracy", "loss")

Group = Literal["study", "tuning", "training", "curvature"]


def _key(default: Any, meaning: str, key: str = "", **limits: Any) -> Any:
    """Declare a key of a preset; the limits are fields of `StudyKey`."""
    return field(default=default, metadata={"key": key, "meaning": meaning, "limits": limits})


@dataclass(frozen=True)
class TuningSettings:
    """How each optimizer is searched."""

    trials: int = _key(8, "configurations tried for each optimizer", least=1, most=100_000, grows=True)
    batch: int = _key(4, "trials suggested together; the number of trials is rounded up to whole batches",
                      least=1, most=100_000)  # fmt: skip
    sampler: str = _key("tpe", "how configurations are suggested", choices=SAMPLERS)
    startup_trials: int = _key(
        4, "trials drawn at random before the sampler learns; the paper's and the default configuration count"
    )
    pruner: str = _key("median", "how unpromising trials are stopped early", choices=PRUNERS)
    objective: Objective = _key(  # noqa: RUF009  # a field, as the others are
        "accuracy", "what is optimized, on the validation images", choices=OBJECTIVES
    )
    epochs: int = _key(3, "epochs of a trial", "tune_epochs", least=1, most=1_000_000)
    rung_epochs: int = _key(1, "epochs of a trial between two decisions to prune", least=1, most=1_000_000)
    size: int = _key(
        0,
        "training images of a trial, a fixed stratified subset; 0 takes all but the validation images",
        "tune_size",
    )
    finalists: int = _key(
        1, "best trials that are trained again from other seeds before one is chosen; 1 takes the best score",
        least=1, most=1_000,
    )  # fmt: skip
    finalist_seeds: int = _key(3, "seeds from which each finalist is trained again", least=1, most=1_000)
    validation: int = _key(10_000, "training images held out for validation while tuning", least=1)

    @property
    def whole_trials(self) -> int:
        """Trials rounded up to whole batches."""
        return -(-self.trials // self.batch) * self.batch

    def rung_end(self, epoch: int) -> int:
        """Return the epoch at which the rung after ``epoch`` ends."""
        return min(epoch + self.rung_epochs, self.epochs)


@dataclass(frozen=True)
class TrainingSettings:
    """How each final run is trained."""

    epochs: int = _key(3, "epochs of a final run", "train_epochs", least=1, most=1_000_000)
    size: int = _key(
        0, "training images of a final run, a fixed stratified subset; 0 takes all", "train_size"
    )
    sweep_every: int = _key(0, "epochs between exact sweeps over the training set; 0 sweeps at the end only")
    seeds: int = _key(3, "final runs of each configuration, from seed 0 on", least=1, most=1_000, grows=True)

    @property
    def sweep_epochs(self) -> tuple[int, ...]:
        """Epochs of a final run that end with an exact sweep; the last always does."""
        every = self.sweep_every or self.epochs
        return tuple(e for e in range(1, self.epochs + 1) if e % every == 0 or e == self.epochs)


@dataclass(frozen=True)
class CurvatureSettings:
    """How the curvature of each final run is measured."""

    samples: int | str = _key(
        100, "training images on which curvature is measured; 0 measures none", or_all=True
    )
    last: int | str = _key(
        100, "steps at the end of a final run whose top eigenvalues are followed", "eigen_last", or_all=True
    )
    every: int = _key(1, "steps from one measurement of the eigenvalues to the next", "eigen_every", least=1)


@dataclass(frozen=True)
class Specification:
    """The specification of a study; `from_keys` validates its arguments."""

    dataset: str = _key("mnist", "a data set by name, or a function of the user's own such as data.py:load")
    model: str = _key("lenet5", "a model by name, or a function of the user's own such as net.py:make")
    loss: str = _key("cross_entropy", "a loss by name, or a function of the user's own such as loss.py:name")
    optimizers: tuple[str, ...] = _key(
        ("sgd", "adagrad", "adam", "adahessian"),
        "optimizers compared, by the names of their spaces",
        grows=True,
    )
    configs: tuple[str, ...] = _key(
        ("best",), "configurations trained: that of the search, the paper's, the library's default",
        choices=CONFIGS, grows=True,
    )  # fmt: skip
    tuning: TuningSettings = TuningSettings()
    training: TrainingSettings = TrainingSettings()
    curvature: CurvatureSettings = CurvatureSettings()
    batch_size: int = _key(100, "images of a mini-batch", least=1)
    margin: float = _key(0.001, "difference of test accuracy below which optimizers count as equivalent")
    target: float = _key(0.97, "test accuracy: what a run spends until it reaches it is recorded")
    seed: int = _key(0, "seed of the split, the sampler and the trials", most=2**31 - 1)
    threads: int = _key(1, "CPU threads of a worker", least=1, most=1024)
    device: str = _key("cpu", "where tensors live: cpu, cuda, cuda:1, mps")
    deterministic: bool = _key(False, "only algorithms that give the same bits each time, on a GPU too")

    @classmethod
    def from_keys(cls, values: Mapping[str, Any]) -> "Specification":
        """Build a specification from the keys of presets; absent keys take their defaults.

        Raises:
            UsageError: If a key is unknown, or its value is invalid.
        """
        groups: dict[Group, dict[str, Any]] = {"study": {}, "tuning": {}, "training": {}, "curvature": {}}
        for name, value in values.items():
            if name not in KEYS:
                raise UsageError(f"unknown key {name!r}{nearest(name, KEYS)}")
            key = KEYS[name]
            given = tuple(value) if isinstance(value, list) else value
            if problem := key.problem(given):
                raise UsageError(problem)
            groups[key.group][key.field] = tuple(dict.fromkeys(given)) if key.kind is tuple else given
        return cls(
            **groups["study"],
            tuning=TuningSettings(**groups["tuning"]),
            training=TrainingSettings(**groups["training"]),
            curvature=CurvatureSettings(**groups["curvature"]),
        )

    def to_keys(self) -> dict[str, Any]:
        """Return all keys with their values, as presets name them."""
        records: dict[Group, Any] = {
            "study": self,
            "tuning": self.tuning,
            "training": self.training,
            "curvature": self.curvature,
        }
        return {name: getattr(records[key.group], key.field) for name, key in KEYS.items()}


@dataclass(frozen=True)
class StudyKey:
    """A key of a preset, and its valid values."""

    name: str
    group: Group  # record of the specification that holds it
    field: str  # its name there
    default: Any
    meaning: str
    least: int = 0  # of a whole number
    most: int | None = None  # far above any sensible value, to catch typing mistakes
    choices: tuple[str, ...] = ()  # names that are allowed; any without them
    or_all: bool = False  # "all" is allowed too
    grows: bool = False  # may be added to at any time

    @property
    def kind(self) -> type:
        """Type of the key's values."""
        return type(self.default)

    @property
    def values(self) -> str:
        """What the value may be, in words."""
        if self.choices:
            return ("any of " if self.kind is tuple else "") + _either(self.choices)
        words = _KINDS[self.kind]
        if self.kind is int:
            limit = f"{self.least:,} or more" if self.most is None else f"{self.least:,} to {self.most:,}"
            return f"{words}, {limit}" + ', or "all"' * self.or_all
        return words + ", between 0 and 1" * (self.kind is float)

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value, if anything."""
        if self.or_all and value == "all":
            return None
        number: Any = float(value) if self.kind is float and type(value) is int else value
        if type(number) is not self.kind:
            return f"{self.name} is {value!r}; it must be {_KINDS[self.kind]}" + ' or "all"' * self.or_all
        if isinstance(number, int | float):
            return None if self.kind is bool else self._problem_of_number(number)
        return self._problem_of_names(number)

    def _problem_of_number(self, value: float) -> str | None:
        if self.kind is float:
            return (
                None if 0 < value < 1 else f"{self.name} is {value:g}; it must be a fraction between 0 and 1"
            )
        if value < self.least:
            return f"{self.name} is {value}; it must be {self.least} or more"
        if self.most is not None and value > self.most:
            return f"{self.name} is {value}; it must be {self.most} or less"
        return None

    def _problem_of_names(self, value: Any) -> str | None:
        names = value if isinstance(value, tuple) else (value,)
        if not names:
            return f"{self.name} is empty; name at least one"
        for name in names:
            if type(name) is not str or not name:
                return f"{self.name} has {name!r}; it must be a name"
            if self.choices and name not in self.choices:
                wanted = _either(self.choices) + nearest(name, self.choices)
                return f"{self.name} is {name!r}; it must be {wanted}"
        return None

    def parse(self, text: str) -> Any:
        """Read a value as it is typed; lists are separated by commas.

        Raises:
            ValueError: If it has the wrong type; the message names the right one.
        """
        if self.kind is tuple:
            return tuple(text.split(","))
        if self.kind is str or (self.or_all and text == "all"):
            return text
        try:
            return _READERS[self.kind](text)
        except (ValueError, KeyError):
            raise ValueError(_KINDS[self.kind] + " or all" * self.or_all) from None


_KINDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    tuple: "a list of names",
    bool: "true or false",
}
_READERS: Mapping[type, Callable[[str], Any]] = {
    int: int,
    float: float,
    bool: {"true": True, "false": False}.__getitem__,
}


def _either(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}"


def _keys(record: type, group: Group) -> Iterator[StudyKey]:
    for item in dataclasses.fields(cast(Any, record)):
        if item.metadata:
            name, meaning, limits = (item.metadata[part] for part in ("key", "meaning", "limits"))
            yield StudyKey(name or item.name, group, item.name, item.default, meaning, **limits)
        else:
            yield from _keys(type(item.default), cast(Group, item.name))


KEYS = {key.name: key for key in _keys(Specification, "study")}
