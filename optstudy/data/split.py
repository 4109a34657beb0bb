"""Which images are trained on, and which are held out."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from optstudy.data.catalogue import load
from optstudy.data.dataset import Dataset
from optstudy.data.seeds import generator
from optstudy.errors import UsageError


@dataclass(frozen=True)
class Split:
    """How a data set is divided.

    ``tuning`` holds out part of the training set and never sees the test set. ``final`` trains on the whole
    training set and holds out the test set; the numbers are not read then.
    """

    role: Literal["tuning", "final"]
    validation: int = 0  # training images held out
    size: int = 0  # images to train on, of those that are left; 0 means all of them
    seed: int = 0

    def __post_init__(self) -> None:
        if self.role not in ("tuning", "final"):
            raise UsageError(f"a split's role is tuning or final, not {self.role!r}")
        if self.size < 0 or self.seed < 0:
            raise UsageError(f"a split has size {self.size} and seed {self.seed}; neither can be negative")
        if self.validation < (self.role == "tuning"):
            raise UsageError(
                f"a split holds out {self.validation} images for validation; hold out at least 1"
            )


@dataclass(frozen=True, eq=False)
class Parts:
    """A data set, divided."""

    train_x: Tensor  # (n, ...)
    train_y: Tensor  # (n,) int64
    heldout_x: Tensor  # (m, ...)
    heldout_y: Tensor  # (m,) int64


def parts(dataset: Dataset, split: Split) -> Parts:
    """Divide a data set.

    A tuning split is stratified: each class has its share of the images held out and, of the images left, its
    share of those to train on, both to within one image. What is held out depends on ``validation`` and ``seed``
    alone. The images keep the order of the data set.

    Args:
        dataset: The data set.
        split: How to divide it.

    Returns:
        Disjoint parts, of exactly the sizes asked for.

    Raises:
        UsageError: If the training set has fewer images than asked for.
    """
    if split.role == "final":
        return Parts(dataset.train_x, dataset.train_y, dataset.test_x, dataset.test_y)
    total = len(dataset.train_y)
    if split.validation + max(split.size, 1) > total:
        raise UsageError(
            f"the training set has {total} images, too few for {split.validation} held out for validation "
            f"and {split.size or 'at least 1'} to train on"
        )
    shuffled = torch.randperm(total, generator=generator("split", split.seed))
    heldout, rest = _draw(shuffled, dataset.train_y, split.validation)
    train, _ = _draw(rest, dataset.train_y, split.size or len(rest))
    return Parts(
        dataset.train_x[train], dataset.train_y[train], dataset.train_x[heldout], dataset.train_y[heldout]
    )


@lru_cache(maxsize=4)  # a study has two splits, one for each role
def _kept(dataset: Dataset, split: Split) -> Parts:
    return parts(dataset, split)


def load_parts(reference: str, split: Split) -> Parts:
    """Load a data set and divide it, once a process; the tensors are shared: do not write to them.

    Args:
        reference: As for `load`.
        split: How to divide it.
    """
    return _kept(load(reference), split)


def _draw(candidates: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Take the first of each class until each has its share; return the taken and the rest, both ascending."""
    of_candidates = labels[candidates]
    quotas = _shares(of_candidates.bincount().tolist(), size)
    taken = torch.zeros(len(candidates), dtype=torch.bool)
    for label, quota in enumerate(quotas):
        taken[(of_candidates == label).nonzero().flatten()[:quota]] = True
    return candidates[taken].sort().values, candidates[~taken]


def _shares(counts: list[int], size: int) -> list[int]:
    """Divide ``size`` in proportion to the counts, by largest remainders; ties go to the lower label."""
    total = sum(counts)
    shares = [count * size // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda label: -(counts[label] * size % total))
    for label in by_remainder[: size - sum(shares)]:
        shares[label] += 1
    return shares
