"""The samples of training images for a curvature request."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from optstudy.errors import UsageError
from optstudy.posthoc.request import CurvatureRequest
from optstudy.records.inputs import read_text
from optstudy.records.plan import Plan
from optstudy.training import ImageBatches, as_batches, sample_images
from optstudy.workloads.splits import load_split

DRAWS = 3  # samples of each size of a sweep
MAX_DIGITS = 18  # of an index
_INDICES = "give a text file with one example index per line"


@dataclass(frozen=True)
class Sample:
    """A sample of training images."""

    count: int | None  # None for all
    seed: int = 0
    indices: tuple[int, ...] | None = None  # explicit indices instead of a count

    def size(self, total: int) -> int:
        """Number of images in the sample, given the number of training images."""
        return len(self.indices) if self.indices is not None else self.count or total


def default_sample(plan: Plan) -> Sample:
    """Return the sample on which a run's own curvature was measured; 100 images if it was not measured."""
    return Sample(100) if plan.trace is None else Sample(plan.trace.samples, plan.trace.seed)


def sampled_images(plan: Plan, sample: Sample) -> ImageBatches | tuple[Tensor, Tensor]:
    """Return the training images of a sample."""
    train, _ = load_split(plan.dataset, plan.split)
    if sample.indices is None:
        return sample_images(train, sample.count, sample.seed, plan.device)
    rows = torch.tensor(sample.indices)
    return as_batches(train[0][rows], train[1][rows], plan.device)


def count_images(plan: Plan) -> int:
    """Return how many training images a plan has; a worker's task."""
    return len(load_split(plan.dataset, plan.split)[0][1])


def choose_samples(request: CurvatureRequest, default: Sample, total: int) -> tuple[list[Sample], str | None]:
    """Return the samples of a request, and a notice if one has an image twice, or more than all ``total`` images.

    ``default`` is the sample of a request without samples; its seed is always used.

    Raises:
        UsageError: If a file of indices is invalid.
    """
    if request.indices is not None:
        indices = read_indices(request.indices, total)
        return [Sample(None, default.seed, indices)], _repeated(indices, request.indices)
    sizes: Sequence[int | str] = request.sweep or (() if request.samples is None else (request.samples,))
    if not sizes:
        return [replace(default, count=_count(default.count, total))], None
    counts = dict.fromkeys(_count(size, total) for size in sizes)
    draws = (request.draws or DRAWS) if request.sweep else 1
    samples = [
        Sample(count, default.seed + draw)
        for count in counts
        for draw in range(1 if count is None else draws)
    ]
    too_large = any(size != "all" and int(size) > total for size in sizes)
    return (
        samples,
        f"there are {total:,} training examples; a larger sample uses all of them" if too_large else None,
    )


def _repeated(indices: Sequence[int], path: Path) -> str | None:
    """Return a notice if a sample has an image more than once, as one drawn with replacement does."""
    repeated = sum(count > 1 for count in Counter(indices).values())
    if not repeated:
        return None
    examples, them = ("example", "it counts") if repeated == 1 else ("examples", "each counts")
    return f"{path} names {repeated:,} {examples} more than once; {them} as often as named"


def _count(size: int | str | None, total: int) -> int | None:
    return None if size is None or size == "all" or int(size) >= total else int(size)


def read_indices(path: Path, total: int) -> tuple[int, ...]:
    """Read the indices of training images, one per line; an image may be named more than once.

    Raises:
        UsageError: If the file cannot be read, or a line is not an index of an image.
    """
    lines = read_text(path, _INDICES).splitlines()
    indices = [
        _index(line.strip(), f"{path}, line {n}", total) for n, line in enumerate(lines, 1) if line.strip()
    ]
    if not indices:
        raise UsageError(f"{path} contains no example index; {_INDICES}")
    return tuple(indices)


def _index(text: str, where: str, total: int) -> int:
    if not text.isdecimal():
        raise UsageError(f"{where}: {text[:40]!r} is not an example index; write one whole number per line")
    if len(text) > MAX_DIGITS or int(text) >= total:
        raise UsageError(f"{where}: there is no training example {text[:40]}; indices are 0 to {total - 1}")
    return int(text)
