"""Final runs as MLflow would return them, the images that they classify right, and their comparison."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optstudy.comparison.pairs import Pair
from optstudy.comparison.table import Comparison, compare
from optstudy.optimizers import find_spaces, read_looks
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.naming import RowKey
from optstudy.records.run import FinalRun, Predictions
from optstudy.statistics import Difference, Discordance, PairTest

LOOKS = read_looks(find_spaces(Path("nowhere")), Path("nowhere"))  # of the packaged optimizers


def look_keys(optimizer: str) -> dict[str, Any]:
    """Return the keys of a packaged space file that define the optimizer's look."""
    return {key: getattr(LOOKS[optimizer], key) for key in ("label", "colour", "style", "cite")}


# Log odds of the fictitious optimizers of `answers`: every pair is decided by five seeds and 1000 images.
SKILL = {"sgd": 0.0, "adam": 1.5, "lion": 3.0}


def final_run(
    optimizer: str = "sgd",
    config: str = "best",
    seed: int = 0,
    test: float = 0.989,
    *,
    train: float = 0.995,
    study: str = "quick",
    outcome: str = "completed",
    paper_setting: bool = True,
    seconds: float = 10.0,
    work: float = 6000.0,
    margin: float = 0.001,
) -> FinalRun:
    """Return a final run whose ID names it."""
    run_id = f"{study}-{optimizer}-{config}-{seed}"
    return FinalRun(
        run_id, study, optimizer, config, seed, outcome, train, test, paper_setting, seconds, work, margin, {}
    )


def seeds(accuracies: Sequence[float], optimizer: str = "sgd", config: str = "best") -> list[FinalRun]:
    """Return runs that differ in seed and test accuracy."""
    return [final_run(optimizer, config, seed, test) for seed, test in enumerate(accuracies)]


def runs_of(optimizers: Iterable[str], count: int = 5, study: str = "quick") -> list[FinalRun]:
    """Return runs of each optimizer from the same seeds."""
    return [final_run(name, seed=seed, study=study) for name in optimizers for seed in range(count)]


def answers(runs: Iterable[FinalRun], images: int = 1000) -> dict[str, NDArray[np.bool_]]:
    """Draw which test images each run classifies right: images differ in difficulty, optimizers in `SKILL`."""
    found = {}
    for run in runs:
        difficulty = np.random.default_rng(images).normal(-1, 1, images)  # the same for all
        own = np.random.default_rng(list(run.run_id.encode()))
        odds = SKILL.get(run.optimizer, 0.0) - difficulty
        found[run.run_id] = own.random(images) < 1 / (1 + np.exp(-odds))
    return found


def comparison_of(
    *runs: FinalRun, correct: Mapping[str, NDArray[np.bool_]] | None = None, **excluded: int
) -> Comparison:
    """Compare runs, by default without their pairs."""
    known = {
        name: Predictions(np.zeros(len(right), int), np.where(right, 0, 1))
        for name, right in (correct or {}).items()
    }
    found = tuple(RunEvidence(run, predictions=known.get(run.run_id)) for run in runs)
    return compare(Evidence(found, (), LOOKS, excluded))


def pair_of(a: str, b: str, study: str = "quick", **values: Any) -> Pair:
    """Return a pair of rows by its numbers as the JSON of a comparison names them; those not given are 0."""
    numbers = {"seeds": 5, "images": 10_000, "verdict": "better", "family": 1, "networks": (), **values}

    def number(name: str) -> Any:
        return numbers.get(name, 0.0)

    difference = Difference(
        number("difference"),
        number("seed_variance"),
        number("image_variance"),
        number("seeds"),
        number("images"),
    )
    names = ("low", "high", "p", "p_holm", "verdict", "smallest")
    networks = {
        one["seed"]: Discordance(one["a_alone"], one["b_alone"], one["p"]) for one in numbers["networks"]
    }
    first, second = (RowKey(study, *row.split("/")) for row in (a, b))
    return Pair(first, second, PairTest(difference, *map(number, names)), number("family"), networks)
