"""Names and order of optimizers, configurations and runs; the values of the paper's Table I."""

import re
from collections.abc import Sequence
from typing import NamedTuple

PAPER = {  # Table I: train and test accuracy as fractions, in the paper's order, which ours keeps
    "sgd": (0.9989, 0.9893),
    "adagrad": (0.9999, 0.9837),
    "adam": (0.9996, 0.9895),
    "adahessian": (0.9999, 0.9910),
}
CONFIGS = ("best", "paper", "default")  # the order of an optimizer's rows; other arms follow by name


def sort_key(optimizer: str, config: str = "best") -> tuple[int, str, int, str]:
    """Return by what a study's rows are sorted: the paper's optimizers, then others by name; likewise configs."""
    return index_of(tuple(PAPER), optimizer), optimizer, index_of(CONFIGS, config), config


def index_of(known: Sequence[str], name: str) -> int:
    """Return where a name stands among those that are known; any other stands after them."""
    return known.index(name) if name in known else len(known)


class RowKey(NamedTuple):
    """A row of a comparison: an optimizer with one configuration, in one study."""

    study: str
    optimizer: str
    config: str

    def __str__(self) -> str:
        """Return ``optimizer/config``."""
        return f"{self.optimizer}/{self.config}"


class RunId(NamedTuple):
    """A final run: a row of a comparison, from one seed."""

    study: str
    optimizer: str
    config: str
    seed: int

    @property
    def row(self) -> RowKey:
        """The row that the run belongs to."""
        return RowKey(self.study, self.optimizer, self.config)

    @property
    def name(self) -> str:
        """The run's name inside its study: ``optimizer/seed-N``, or ``optimizer/config/seed-N``."""
        config = "" if self.config == "best" else f"{self.config}/"
        return f"{self.optimizer}/{config}seed-{self.seed}"

    def __str__(self) -> str:
        """Return the name with the study in front."""
        return f"{self.study}/{self.name}"

    @classmethod
    def parse(cls, study: str, name: str) -> "RunId | None":
        """Read the name of a run inside its study; None where it names no final run."""
        found = re.fullmatch(r"([^/]+)/(?:([^/]+)/)?seed-(\d+)", name)
        return None if found is None else cls(study, found[1], found[2] or "best", int(found[3]))
