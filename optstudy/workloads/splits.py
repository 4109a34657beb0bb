"""Split a data set into training and held-out images."""

from functools import lru_cache

import torch
from torch import Tensor

from optstudy.errors import UsageError
from optstudy.records.plan import Split
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.datasets import load
from optstudy.workloads.seeds import generator

LabelledImages = tuple[Tensor, Tensor]  # images (n, ...) and labels (n,) int64


def split_dataset(dataset: Dataset, split: Split) -> tuple[LabelledImages, LabelledImages]:
    """Divide a data set into training and held-out images.

    Both subsets are stratified: every class is represented in proportion to its frequency, to within one image. The
    held-out images do not depend on ``size``. The images keep the order of the data set.

    Args:
        dataset: The data set.
        split: Role and sizes of the two parts.

    Returns:
        The disjoint training and held-out images, of exactly the given sizes.

    Raises:
        UsageError: If the training set has too few images.
    """
    x, y = dataset.train_x, dataset.train_y
    final = split.role == "final"
    if final and not split.size:
        return (x, y), (dataset.test_x, dataset.test_y)  # no copy
    validation = 0 if final else split.validation
    if validation + max(split.size, 1) > len(y):
        held_out = "" if final else f"hold out {validation} for validation and "
        raise UsageError(
            f"the training set has {len(y)} examples, too few to {held_out}train on {split.size or 'at least 1'};"
            f" give a smaller {'train_size' if final else 'validation or tune_size'}"
        )
    shuffled = torch.randperm(len(y), generator=generator("split", split.seed))
    heldout, rest = _draw(shuffled, y, validation)
    train, _ = _draw(rest, y, split.size or len(rest))
    return (x[train], y[train]), (dataset.test_x, dataset.test_y) if final else (x[heldout], y[heldout])


def load_split(reference: str, split: Split) -> tuple[LabelledImages, LabelledImages]:
    """Load a data set and divide it; cached per process. The tensors are shared: do not write to them.

    Args:
        reference: Name or reference of the data set; see `load`.
        split: Role and sizes of the two parts.
    """
    return _cached_split(load(reference), split)


_cached_split = lru_cache(maxsize=4)(split_dataset)  # a study has two splits, one for each role


def _draw(candidates: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Select a stratified subset of the first candidates; return the selected indices, ascending, and the others."""
    candidate_labels = labels[candidates]
    quotas = _shares(candidate_labels.bincount().tolist(), size)
    selected = torch.zeros(len(candidates), dtype=torch.bool)
    for label, quota in enumerate(quotas):
        selected[(candidate_labels == label).nonzero().flatten()[:quota]] = True
    return candidates[selected].sort().values, candidates[~selected]


def _shares(counts: list[int], size: int) -> list[int]:
    """Divide ``size`` in proportion to the counts, by largest remainders; ties go to the lower label."""
    total = sum(counts)
    shares = [count * size // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda label: -(counts[label] * size % total))
    for label in by_remainder[: size - sum(shares)]:
        shares[label] += 1
    return shares
