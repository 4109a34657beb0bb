"""Error rate and power of the verdicts of `optstudy compare`.

    python benchmarks/verdicts.py                   5,000 simulated studies of each kind, some minutes
    python benchmarks/verdicts.py --studies 200     fewer
    python benchmarks/verdicts.py --runs docs/results --study mnist-equal
                                                    40 real runs of one optimizer, divided at random into four groups

A study has four optimizers, some seeds and 10,000 test images. Images differ in difficulty, and seeds have random
effects, so that accuracy is about 98.9 % with a standard deviation of about 0.13 percentage points between seeds, as on
MNIST. With interactions, each optimizer finds different images hard, but equally many: then their accuracies differ on
these 10,000 images, but not in the population. The exit status is 1 if the upper 95 % confidence limit of the rate of
studies with a false claim is above 6 %. Divisions of the same real runs are not independent, so they have no limit.
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
MAX_FALSE = 0.06
POINTS = 0.0025  # the difference whose power is printed


@dataclass(frozen=True)
class Population:
    """The distribution of simulated studies."""

    name: str
    seeds: int
    interaction: float = 0.0  # standard deviation of optimizer times image, in log odds
    advantage: float = 0.0  # of the first optimizer, a fraction of images


IMAGE_LOG_ODDS = 5.2, 1.2  # mean and standard deviation of the images' log odds of a correct prediction
SEED_LOG_ODDS = 0.08  # standard deviation of the seeds' effects


def draw_study(population: Population, draw: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which predictions are correct, ``(optimizer, seed, image)``."""
    shape = OPTIMIZERS, population.seeds, IMAGES
    image_effects = draw.normal(*IMAGE_LOG_ODDS, IMAGES).astype(np.float32)
    odds = image_effects + draw.normal(0, SEED_LOG_ODDS, (*shape[:2], 1)).astype(np.float32)
    odds = odds + population.interaction * draw.standard_normal((OPTIMIZERS, 1, IMAGES), dtype=np.float32)
    correct = draw.random(shape, dtype=np.float32) < 1 / (1 + np.exp(-odds))
    if population.advantage:  # correct some of its errors
        wrong = 1 - correct[0].mean()
        correct[0] |= draw.random(shape[1:], dtype=np.float32) < population.advantage / wrong
    return correct


def claims(correct: NDArray[np.bool_]) -> list[bool]:
    """Return for each pair whether a difference is claimed."""
    pairs: dict[tuple[int, int], Difference] = {
        (a, b): difference(correct[a], correct[b]) for a, b in itertools.combinations(range(OPTIMIZERS), 2)
    }
    return [test.verdict in ("better", "worse") for test in compare_pairs(pairs, MARGIN).values()]


def false_claims(population: Population, studies: int) -> bool:
    """Print the rate of studies with a false claim among equal optimizers, and return whether it is low enough."""
    draw = np.random.default_rng(0)
    count, accuracies, seed_deviations = 0, [], []
    for _ in range(studies):
        correct = draw_study(population, draw)
        count += any(claims(correct))
        accuracies.append(correct.mean())
        seed_deviations.append(correct.mean(axis=2).std(axis=1, ddof=1).mean())
    limit = stats.binomtest(count, studies).proportion_ci(0.95).high
    print(
        f"{population.name}, {population.seeds} seeds: {count} of {studies} studies with a false claim,"
        f" {count / studies:.1%}, at most {limit:.1%}; accuracy {np.mean(accuracies):.2%},"
        f" {100 * np.mean(seed_deviations):.2f} points between seeds",
        flush=True,
    )
    return bool(limit <= MAX_FALSE)


def power(population: Population, studies: int) -> None:
    """Print how often the first optimizer, which is better, is claimed to be."""
    draw = np.random.default_rng(1)
    shown = [
        claim for _ in range(studies) for claim in claims(draw_study(population, draw))[: OPTIMIZERS - 1]
    ]
    print(
        f"{100 * population.advantage:.2f} points, {population.seeds} seeds: shown in {np.mean(shown):.0%} of pairs",
        flush=True,
    )


def divide_runs(folder: Path, study: str, divisions: int) -> None:
    """Print how often four random groups of the runs of one optimizer are claimed to differ."""
    known = [one.predictions for one in read_archive(folder).runs if one.run.study == study]
    correct = np.stack([predictions.correct for predictions in known if predictions is not None])
    seeds = len(correct) // OPTIMIZERS
    draw = np.random.default_rng(2)
    count = 0
    for _ in range(divisions):
        order = draw.permutation(len(correct))[: OPTIMIZERS * seeds]
        count += any(claims(correct[order].reshape(OPTIMIZERS, seeds, -1)))
    print(
        f"{len(correct)} runs of {study} divided into {OPTIMIZERS} groups of {seeds}: {count} of {divisions} divisions"
        f" with a false claim, {count / divisions:.1%}; accuracy {correct.mean():.2%},"
        f" {100 * correct.mean(axis=1).std(ddof=1):.2f} points between seeds"
    )


def main() -> int:
    """Simulate, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--studies", type=int, default=5000, help="simulated studies of each kind (default: 5000)"
    )
    parser.add_argument("--runs", type=Path, help="folder of a report, whose runs are divided instead")
    parser.add_argument(
        "--study", default="mnist-equal", help="study whose runs are divided (default: mnist-equal)"
    )
    arguments = parser.parse_args()
    studies = arguments.studies
    if arguments.runs is not None:
        divide_runs(arguments.runs, arguments.study, studies)
        return 0
    equal = [
        Population(name, seeds, interaction)
        for seeds in (3, 10)
        for name, interaction in (("equal", 0.0), ("equal, with interactions", 0.7))
    ]
    within_limit = [false_claims(population, studies) for population in equal]
    for seeds in (5, 10, 20):
        power(Population("better", seeds, advantage=POINTS), max(1, studies // 10))
    print(
        f"{'met' if all(within_limit) else 'NOT MET'}: the upper limit of false claims is {MAX_FALSE:.0%} at most"
    )
    return 0 if all(within_limit) else 1


if __name__ == "__main__":
    sys.exit(main())
