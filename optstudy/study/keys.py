"""Every key of a preset and of `--set`: its default, limits and meaning.

A key is an entry of `KEYS`, and a field of the same name in the record of its group in specification.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optstudy.errors import UsageError, suggestion
from optstudy.records.naming import CONFIGS

SAMPLERS = ("tpe", "gp", "random", "qmc")
PRUNERS = ("median", "hyperband", "none")
OBJECTIVES = ("accuracy", "loss")

Group = Literal["study", "tuning", "training", "curvature"]

_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    tuple: "a list of names",
    bool: "true or false",
}


@dataclass(frozen=True)
class StudyKey:
    """A key of a preset, and its valid values."""

    name: str
    group: Group
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
    def kind_name(self) -> str:
        """The type of the key's values, in words."""
        return _KINDS[self.kind]

    @property
    def values(self) -> str:
        """The valid values, in words."""
        if self.choices:
            return ("any of " if self.kind is tuple else "") + _either(self.choices)
        if self.kind is int:
            limit = f"{self.least:,} or more" if self.most is None else f"{self.least:,} to {self.most:,}"
            return f"{self.kind_name}, {limit}" + ', or "all"' * self.or_all
        return self.kind_name + ", between 0 and 1" * (self.kind is float)

    def check(self, value: Any) -> Any:
        """Return a valid value; of a list of names, a tuple that holds each of them once.

        Raises:
            UsageError: If the value is invalid.
        """
        value = tuple(value) if isinstance(value, list) else value
        if self.or_all and value == "all":
            return value
        if type(value) not in ((float, int) if self.kind is float else (self.kind,)):
            raise UsageError(
                f"{self.name} is {value!r}; it must be {self.kind_name}" + ' or "all"' * self.or_all
            )
        if self.kind is tuple:
            if not value:
                raise UsageError(f"{self.name} is empty; name at least one")
            return tuple(dict.fromkeys(map(self._checked_name, value)))
        if self.kind is str:
            return self._checked_name(value)
        if self.kind is float and not 0 < value < 1:
            raise UsageError(f"{self.name} is {value:g}; it must be a fraction between 0 and 1")
        if self.kind is int and value < self.least:
            raise UsageError(f"{self.name} is {value}; it must be {self.least} or more")
        if self.kind is int and self.most is not None and value > self.most:
            raise UsageError(f"{self.name} is {value}; it must be {self.most} or less")
        return value

    def _checked_name(self, name: Any) -> str:
        if type(name) is not str or not name:
            raise UsageError(f"{self.name} has {name!r}; it must be a name")
        if self.choices and name not in self.choices:
            hint = suggestion(name, self.choices)
            raise UsageError(f"{self.name} is {name!r}; it must be {_either(self.choices)}{hint}")
        return name


def _either(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}"


_KEYS = (
    StudyKey("dataset", "study", "mnist", "a data set by name, or a function of the user's own such as data.py:load"),
    StudyKey("model", "study", "lenet5", "a model by name, or a function of the user's own such as net.py:make"),
    StudyKey("loss", "study", "cross_entropy", "a loss by name, or a function of the user's own such as loss.py:name"),
    StudyKey("optimizers", "study", ("sgd", "adagrad", "adam", "adahessian"),
             "optimizers compared, by the names of their spaces", grows=True),
    StudyKey("configs", "study", ("best",),
             "configurations trained: that of the search, the paper's, the library's default",
             choices=CONFIGS, grows=True),
    StudyKey("trials", "tuning", 8, "configurations tried for each optimizer", least=1, most=100_000, grows=True),
    StudyKey("batch", "tuning", 4,
             "trials suggested together; the number of trials is rounded up to whole batches", least=1, most=100_000),
    StudyKey("sampler", "tuning", "tpe", "how configurations are suggested", choices=SAMPLERS),
    StudyKey("startup_trials", "tuning", 4,
             "trials drawn at random before the sampler learns; the paper's and the default configuration count"),
    StudyKey("pruner", "tuning", "median", "how unpromising trials are stopped early", choices=PRUNERS),
    StudyKey("objective", "tuning", "accuracy", "what is optimized, on the validation images", choices=OBJECTIVES),
    StudyKey("tune_epochs", "tuning", 3, "epochs of a trial", least=1, most=1_000_000),
    StudyKey("rung_epochs", "tuning", 1, "epochs of a trial between two decisions to prune", least=1, most=1_000_000),
    StudyKey("tune_size", "tuning", 0,
             "training images of a trial, a fixed stratified subset; 0 takes all but the validation images"),
    StudyKey("finalists", "tuning", 1,
             "best trials that are trained again from other seeds before one is chosen; 1 takes the best score",
             least=1, most=1_000),
    StudyKey("finalist_seeds", "tuning", 3, "seeds from which each finalist is trained again", least=1, most=1_000),
    StudyKey("validation", "tuning", 10_000, "training images held out for validation while tuning", least=1),
    StudyKey("train_epochs", "training", 3, "epochs of a final run", least=1, most=1_000_000),
    StudyKey("train_size", "training", 0,
             "training images of a final run, a fixed stratified subset; 0 takes all"),
    StudyKey("sweep_every", "training", 0,
             "epochs between exact sweeps over the training set; 0 sweeps at the end only"),
    StudyKey("seeds", "training", 3, "final runs of each configuration, from seed 0 on",
             least=1, most=1_000, grows=True),
    StudyKey("samples", "curvature", 100,
             "training images on which curvature is measured; 0 measures none", or_all=True),
    StudyKey("eigen_last", "curvature", 100,
             "steps at the end of a final run whose top eigenvalues are followed", or_all=True),
    StudyKey("eigen_every", "curvature", 1, "steps from one measurement of the eigenvalues to the next", least=1),
    StudyKey("batch_size", "study", 100, "images of a mini-batch", least=1),
    StudyKey("margin", "study", 0.001, "difference of test accuracy below which optimizers count as equivalent"),
    StudyKey("target", "study", 0.97, "test accuracy: what a run spends until it reaches it is recorded"),
    StudyKey("seed", "study", 0, "seed of the split, the sampler and the trials", most=2**31 - 1),
    StudyKey("threads", "study", 1, "CPU threads of a worker", least=1, most=1024),
    StudyKey("device", "study", "cpu", "where tensors live: cpu, cuda, cuda:1, mps"),
    StudyKey("deterministic", "study", False, "only algorithms that give the same bits each time, on a GPU too"),
)  # fmt: skip

KEYS = {key.name: key for key in _KEYS}
