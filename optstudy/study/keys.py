"""Every key of a preset and of `--set`: its default, limits and meaning.

A key is an entry of `KEYS`, and a field of the same name in the record of its group in specification.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optstudy.errors import UsageError, suggestion
from optstudy.records.naming import CONFIGS
from optstudy.records.plan import MOST_EPOCHS, MOST_THREADS

SAMPLERS = ("tpe", "gp", "random", "qmc")
PRUNERS = ("median", "hyperband", "none")
OBJECTIVES = ("accuracy", "loss")

Group = Literal["study", "tuning", "training", "curvature"]

_TYPE_NAMES = {
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
    minimum: int = 0  # of an integer
    maximum: int | None = None  # far above any sensible value, to catch typing mistakes
    choices: tuple[str, ...] = ()  # valid names; any name if empty
    allows_all: bool = False  # "all" is also valid
    grows: bool = False  # may grow at any time

    @property
    def kind(self) -> type:
        """Type of the key's values."""
        return type(self.default)

    @property
    def kind_name(self) -> str:
        """Name of the type of the key's values."""
        return _TYPE_NAMES[self.kind]

    @property
    def values(self) -> str:
        """Description of the valid values."""
        if self.choices:
            return ("any of " if self.kind is tuple else "") + _joined(self.choices)
        if self.kind is int:
            limit = (
                f"{self.minimum:,} or more"
                if self.maximum is None
                else f"{self.minimum:,} to {self.maximum:,}"
            )
            return f"{self.kind_name}, {limit}" + ', or "all"' * self.allows_all
        return self.kind_name + ", between 0 and 1" * (self.kind is float)

    def check(self, value: Any) -> Any:
        """Return a valid value; a list of names becomes a tuple.

        Raises:
            UsageError: If the value is invalid.
        """
        value = tuple(value) if isinstance(value, list) else value
        if self.allows_all and value == "all":
            return value
        if type(value) not in ((float, int) if self.kind is float else (self.kind,)):
            raise UsageError(
                f"{self.name} is {value!r}; it must be {self.kind_name}" + ' or "all"' * self.allows_all
            )
        if self.kind is tuple:
            if not value:
                raise UsageError(f"{self.name} is empty; name at least one")
            names = tuple(map(self._valid_name, value))
            if repeated := next((item for item in names if names.count(item) > 1), None):
                raise UsageError(f"{self.name} has {repeated!r} more than once; name it once")
            return names
        if self.kind is str:
            return self._valid_name(value)
        if self.kind is float and not 0 < value < 1:
            raise UsageError(f"{self.name} is {value:g}; it must be a fraction between 0 and 1")
        if self.kind is int and value < self.minimum:
            raise UsageError(f"{self.name} is {value}; it must be {self.minimum} or more")
        if self.kind is int and self.maximum is not None and value > self.maximum:
            raise UsageError(f"{self.name} is {value}; it must be {self.maximum} or less")
        return value

    def _valid_name(self, name: Any) -> str:
        if type(name) is not str or not name:
            raise UsageError(f"{self.name} has {name!r}; it must be a name")
        if self.choices and name not in self.choices:
            hint = suggestion(name, self.choices)
            raise UsageError(f"{self.name} is {name!r}; it must be {_joined(self.choices)}{hint}")
        return name


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}"


_KEYS = (
    StudyKey("dataset", "study", "mnist", "name of a data set, or of your own function, such as data.py:load"),
    StudyKey("model", "study", "lenet5", "name of a model, or of your own function, such as net.py:make"),
    StudyKey("loss", "study", "cross_entropy", "name of a loss, or of your own function, such as loss.py:name"),
    StudyKey("optimizers", "study", ("sgd", "adagrad", "adam", "adahessian"),
             "names of the optimizers to compare", grows=True),
    StudyKey("configs", "study", ("best",),
             "configurations to train: the search's best, the paper's, the library's default",
             choices=CONFIGS, grows=True),
    StudyKey("trials", "tuning", 8, "configurations tried for each optimizer", minimum=1, maximum=100_000, grows=True),
    StudyKey("batch", "tuning", 4,
             "trials suggested together; the number of trials is rounded up to whole batches",
             minimum=1, maximum=100_000),
    StudyKey("sampler", "tuning", "tpe", "how configurations are suggested", choices=SAMPLERS),
    StudyKey("startup_trials", "tuning", 4,
             "trials drawn at random before the sampler learns; the paper's and the default configuration count"),
    StudyKey("pruner", "tuning", "median", "how unpromising trials are stopped early", choices=PRUNERS),
    StudyKey("objective", "tuning", "accuracy", "metric to optimize, on the validation examples", choices=OBJECTIVES),
    StudyKey("tune_epochs", "tuning", 3, "epochs of a trial", minimum=1, maximum=MOST_EPOCHS),
    StudyKey("rung_epochs", "tuning", 1, "epochs of a trial between pruning decisions", minimum=1, maximum=MOST_EPOCHS),
    StudyKey("tune_size", "tuning", 0,
             "training examples of a trial, a fixed stratified subset; 0 takes all but the validation examples"),
    StudyKey("finalists", "tuning", 1,
             "best trials that are retrained from other seeds before the final selection; 1 selects the best score",
             minimum=1, maximum=1_000),
    StudyKey("finalist_seeds", "tuning", 3, "seeds from which each finalist is retrained", minimum=1, maximum=1_000),
    StudyKey("validation", "tuning", 10_000, "training examples held out for validation while tuning", minimum=1),
    StudyKey("train_epochs", "training", 3, "epochs of a final run", minimum=1, maximum=MOST_EPOCHS),
    StudyKey("train_size", "training", 0,
             "training examples of a final run, a fixed stratified subset; 0 takes all"),
    StudyKey("sweep_every", "training", 0,
             "epochs between exact sweeps over the training set; 0 sweeps at the end only"),
    StudyKey("seeds", "training", 3, "final runs of each configuration, from seed 0 on",
             minimum=1, maximum=1_000, grows=True),
    StudyKey("samples", "curvature", 100,
             "training examples on which curvature is measured; 0 measures none", allows_all=True),
    StudyKey("eigen_last", "curvature", 100,
             "last steps of a final run in which the top eigenvalues are tracked", allows_all=True),
    StudyKey("eigen_every", "curvature", 1, "steps between two measurements of the eigenvalues", minimum=1),
    StudyKey("batch_size", "study", 100, "examples of a mini-batch", minimum=1),
    StudyKey("margin", "study", 0.001, "difference of test accuracy below which optimizers count as equivalent"),
    StudyKey("target", "study", 0.97, "test accuracy up to which the cost of each run is recorded"),
    StudyKey("seed", "study", 0, "seed of the split, the sampler and the trials", maximum=2**31 - 1),
    StudyKey("threads", "study", 1, "CPU threads of a worker", minimum=1, maximum=MOST_THREADS),
    StudyKey("device", "study", "cpu", "device of the tensors: cpu, cuda, cuda:1, mps"),
    StudyKey("deterministic", "study", False, "use only deterministic algorithms, also on a GPU"),
)  # fmt: skip

KEYS = {key.name: key for key in _KEYS}
