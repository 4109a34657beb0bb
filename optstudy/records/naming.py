"""Names and order of optimizers, configurations and runs; the values of the paper's Table I."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from optstudy.errors import UsageError

PAPER = {  # Table I: train and test accuracy as fractions, in the paper's order
    "sgd": (0.9989, 0.9893),
    "adagrad": (0.9999, 0.9837),
    "adam": (0.9996, 0.9895),
    "adahessian": (0.9999, 0.9910),
}
CONFIGS = ("best", "paper", "default")  # the order of an optimizer's rows; others follow by name
LONGEST_NAME = 200  # bytes; files are named after it, and file systems take 255


def check_name(kind: str, name: str) -> None:
    """Raise UsageError unless a name may be a study's: it is a part of paths, commands and names of runs.

    Args:
        kind: What it names, for the message: ``study``.
        name: The name.
    """
    _check_length(kind, name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"{kind} name {name!r}: use letters, digits, '.', '_' and '-', in ASCII,"
            " and begin with a letter or digit"
        )


def check_file_name(kind: str, name: str) -> None:
    """Raise UsageError unless a name may be an optimizer's, which is the name of a file; see `check_name`."""
    _check_length(kind, name)
    if not name or not name.isprintable() or "/" in name or name.startswith("."):
        raise UsageError(
            f"{kind} name {name!r}: use printable characters other than '/', and do not begin with '.'"
        )


def check_run_names(study: str, optimizer: str, config: str) -> None:
    """Raise UsageError unless these may be the names of a run, since files of such names are read and written."""
    check_name("study", study)
    check_file_name("optimizer", optimizer)
    check_name("config", config)


def _check_length(kind: str, name: str) -> None:
    if len(name.encode(errors="replace")) > LONGEST_NAME:
        raise UsageError(f"{kind} name {name[:40]!r}...: use at most {LONGEST_NAME} characters")


def sort_key(optimizer: str, config: str = "best") -> tuple[int, str, int, str]:
    """Return the sort key of a study's rows: the paper's optimizers first, then others by name; likewise configs."""
    return order_index(tuple(PAPER), optimizer), optimizer, order_index(CONFIGS, config), config


def order_index(known: Sequence[str], name: str) -> int:
    """Return the index of a name in ``known``, or ``len(known)`` if it is unknown."""
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
    """The identity of a final run: a row of a comparison and a seed."""

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
        """Return ``study/name``."""
        return f"{self.study}/{self.name}"

    @classmethod
    def parse(cls, study: str, name: str) -> "RunId | None":
        """Parse the name of a run inside its study; None if it is not the name of a final run."""
        match = re.fullmatch(r"([^/]+)/(?:([^/]+)/)?seed-(\d{1,20})", name)
        return None if match is None else cls(study, match[1], match[2] or "best", int(match[3]))
