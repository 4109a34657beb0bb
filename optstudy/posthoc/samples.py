"""The training images that an inquiry measures on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optstudy.errors import UsageError
from optstudy.posthoc.measure import Choice
from optstudy.records.plan import Plan
from optstudy.workloads import load_parts

LONGEST = 18  # digits of an image's number


def count_images(plan: Plan) -> int:
    """Return how many training images a plan has; a worker's task."""
    return len(load_parts(plan.dataset, plan.split).train_y)


@dataclass(frozen=True)
class Wish:
    """Samples as a user names them; a number, or all."""

    samples: int | str | None = None
    indices: Path | None = None
    sweep: tuple[int | str, ...] = ()
    draws: int = 1  # samples of each size of a sweep


def choose(wish: Wish, own: Choice, total: int) -> tuple[list[Choice], str | None]:
    """Return the samples that are wished for, and a notice where there are too few images for one.

    Args:
        wish: What is wished for.
        own: Where nothing is; its seed serves otherwise, too.
        total: Training images.

    Raises:
        UsageError: If a file of indices does not say which images.
    """
    if wish.indices is not None:
        return [Choice(None, own.seed, read_indices(wish.indices, total))], None
    sizes: Sequence[int | str] = wish.sweep or (() if wish.samples is None else (wish.samples,))
    if not sizes:
        return [replace(own, count=_count(own.count, total))], None
    counts = dict.fromkeys(_count(size, total) for size in sizes)
    draws = wish.draws if wish.sweep else 1
    choices = [
        Choice(count, own.seed + draw) for count in counts for draw in range(1 if count is None else draws)
    ]
    beyond = any(size != "all" and int(size) > total for size in sizes)
    return choices, f"there are {total:,} training images; a larger sample is all of them" if beyond else None


def _count(size: int | str | None, total: int) -> int | None:
    return None if size is None or size == "all" or int(size) >= total else int(size)


def read_indices(path: Path, total: int) -> tuple[int, ...]:
    """Read the numbers of training images, one a line.

    Raises:
        UsageError: If the file cannot be read, or a line is no number of an image, or one is there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text; write the number of one training image a line") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    indices = [
        _index(line.strip(), f"{path}, line {n}", total) for n, line in enumerate(lines, 1) if line.strip()
    ]
    if not indices:
        raise UsageError(f"{path} names no image; write the number of one training image a line")
    if len(set(indices)) < len(indices):
        twice = next(index for index, times in Counter(indices).items() if times > 1)
        raise UsageError(f"{path} names image {twice} twice; each counts once")
    return tuple(indices)


def _index(text: str, where: str, total: int) -> int:
    if not text.isdecimal():
        raise UsageError(f"{where}: {text[:40]!r} is no image; write one whole number a line")
    if len(text) > LONGEST or int(text) >= total:
        raise UsageError(f"{where}: there is no training image {text[:40]}; they go from 0 to {total - 1}")
    return int(text)
