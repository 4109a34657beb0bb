"""How often `optstudy compare` claims a difference where there is none, and how often it shows one that is there.

    python benchmarks/verdicts.py                   5,000 simulated studies of each kind, some minutes
    python benchmarks/verdicts.py --studies 200     fewer
    python benchmarks/verdicts.py --runs docs/results --study mnist-equal
                                                    40 real runs of one optimizer, dealt into four groups

A study is four optimizers over some seeds and 10,000 test images. Images differ in difficulty, and seeds in luck, so
that accuracy is about 98.9 % and moves by about 0.13 points from seed to seed, as on MNIST. Where optimizers have a
taste of their own, each finds other images hard, though as many of them: then their accuracies on these 10,000
images differ, and on all images of that kind do not. Exit status 1 if the upper 95 % limit of the rate of studies
with a false claim is above 6 %. Deals of the same real runs are no independent studies, so their rate has no limit.
"""

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from optstudy.report.archive import read_archive
from optstudy.statistics import Difference, compare_pairs, difference

OPTIMIZERS, IMAGES, MARGIN = 4, 10_000, 0.001
MOST_FALSE = 0.06
POINTS = 0.0025  # the difference whose power is printed


@dataclass(frozen=True)
class World:
    """What the studies are drawn from."""

    name: str
    seeds: int
    taste: float = 0.0  # deviation of what an optimizer alone finds hard in an image, in log odds
    ahead: float = 0.0  # how much better the first optimizer is, as a fraction of images


HARDNESS = 5.2, 1.2  # mean and deviation of the images' log odds to be classified right
LUCK = 0.08  # deviation of a seed's log odds


def drawn(world: World, draw: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which images are classified right, ``(optimizer, seed, image)``."""
    shape = OPTIMIZERS, world.seeds, IMAGES
    hardness = draw.normal(
        *HARDNESS,
        IMAGES,
    ).astype(np.float32)
    odds = hardness + draw.normal(0, LUCK, (*shape[:2], 1)).astype(np.float32)
    odds = odds + world.taste * draw.standard_normal((OPTIMIZERS, 1, IMAGES), dtype=np.float32)
    right = draw.random(shape, dtype=np.float32) < 1 / (1 + np.exp(-odds))
    if world.ahead:  # some of what it got wrong is right after all
        wrong = 1 - right[0].mean()
        right[0] |= draw.random(shape[1:], dtype=np.float32) < world.ahead / wrong
    return right


def claims(right: NDArray[np.bool_]) -> list[bool]:
    """Say of each pair whether a difference is claimed."""
    pairs: dict[tuple[int, int], Difference] = {
        (a, b): difference(right[a], right[b]) for a, b in itertools.combinations(range(OPTIMIZERS), 2)
    }
    return [found.verdict in ("better", "worse") for found in compare_pairs(pairs, MARGIN).values()]


def false_claims(world: World, studies: int) -> bool:
    """Print the rate of studies with a claim among equal optimizers, and say whether it is low enough."""
    draw = np.random.default_rng(0)
    count, accuracies, apart = 0, [], []
    for _ in range(studies):
        right = drawn(world, draw)
        count += any(claims(right))
        accuracies.append(right.mean())
        apart.append(right.mean(axis=2).std(axis=1, ddof=1).mean())
    limit = stats.binomtest(count, studies).proportion_ci(0.95).high
    print(
        f"{world.name}, {world.seeds} seeds: {count} of {studies} studies with a false claim, {count / studies:.1%},"
        f" at most {limit:.1%}; accuracy {np.mean(accuracies):.2%}, {100 * np.mean(apart):.2f} points between seeds",
        flush=True,
    )
    return bool(limit <= MOST_FALSE)


def power(world: World, studies: int) -> None:
    """Print how often the first optimizer is shown to be better than each of the others."""
    draw = np.random.default_rng(1)
    shown = [claim for _ in range(studies) for claim in claims(drawn(world, draw))[: OPTIMIZERS - 1]]
    print(
        f"{100 * world.ahead:.2f} points, {world.seeds} seeds: shown in {np.mean(shown):.0%} of pairs",
        flush=True,
    )


def dealt(folder: Path, study: str, deals: int) -> None:
    """Print how often four groups of the runs of one optimizer, which are equal, are claimed to differ."""
    known = [one.predictions for one in read_archive(folder).runs if one.run.study == study]
    right = np.stack([predictions.correct for predictions in known if predictions is not None])
    seeds = len(right) // OPTIMIZERS
    draw = np.random.default_rng(2)
    count = 0
    for _ in range(deals):
        order = draw.permutation(len(right))[: OPTIMIZERS * seeds]
        count += any(claims(right[order].reshape(OPTIMIZERS, seeds, -1)))
    print(
        f"{len(right)} runs of {study} dealt into {OPTIMIZERS} groups of {seeds}: {count} of {deals} deals with a false"
        f" claim, {count / deals:.1%}; accuracy {right.mean():.2%},"
        f" {100 * right.mean(axis=1).std(ddof=1):.2f} points between seeds"
    )


def main() -> int:
    """Simulate, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--studies", type=int, default=5000, help="of each kind (default: 5000)")
    parser.add_argument("--runs", type=Path, help="folder of a report; its runs are dealt instead")
    parser.add_argument("--study", default="mnist-equal", help="whose runs are dealt (default: mnist-equal)")
    given = parser.parse_args()
    studies = given.studies
    if given.runs is not None:
        dealt(given.runs, given.study, studies)
        return 0
    equal = [
        World(name, seeds, taste)
        for seeds in (3, 10)
        for name, taste in (("equal", 0.0), ("equal, of own taste", 0.7))
    ]
    kept = [false_claims(world, studies) for world in equal]
    for seeds in (5, 10, 20):
        power(World("ahead", seeds, ahead=POINTS), max(1, studies // 10))
    print(f"{'met' if all(kept) else 'NOT MET'}: the upper limit of false claims is {MOST_FALSE:.0%} at most")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
