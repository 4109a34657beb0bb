"""The pairs of a comparison, and the ranks of its rows; tests and verdicts are computed in statistics/pairs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optstudy.records.io import plain
from optstudy.records.naming import RowKey
from optstudy.records.run import FinalRun
from optstudy.statistics import Discordance, PairTest, compare_pairs, difference, discordance, seeds_needed

Correct = Mapping[str, NDArray[np.bool_]]  # which test images a run classifies right, by its ID


@dataclass(frozen=True)
class Pair:
    """Test accuracy of A minus that of B, over the seeds that both have."""

    a: RowKey
    b: RowKey
    test: PairTest  # what is not known, as an interval of a single seed, is nan
    family: int  # pairs that were judged together, this one among them
    networks: Mapping[int, Discordance] = field(default_factory=dict)  # by seed; decides no verdict

    @property
    def study(self) -> str:
        """The study that both are rows of."""
        return self.a.study

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; null where a number is not known."""
        test, difference = self.test, self.test.difference
        networks = [
            {"seed": seed, "a_alone": found.first_only, "b_alone": found.second_only, "p": found.p}
            for seed, found in self.networks.items()
        ]
        found: dict[str, Any] = plain(
            {
                "study": self.study,
                "a": str(self.a),
                "b": str(self.b),
                "seeds": difference.seeds,
                "images": difference.images,
                "difference": difference.mean,
                "low": test.low,
                "high": test.high,
                "p": test.p,
                "p_holm": test.p_holm,
                "verdict": test.verdict,
                "smallest": test.smallest,
                "seed_variance": difference.by_seed,
                "image_variance": difference.by_image,
                "family": self.family,
                "networks": networks,
            }
        )
        return found


def pairs_of(runs: Sequence[FinalRun], correct: Correct) -> tuple[Pair, ...]:
    """Judge all pairs of optimizer and configuration, study by study.

    Args:
        runs: Final runs, each seed of a configuration once; in the order in which A comes before B.
        correct: Of each run; runs that it lacks are left out.

    Returns:
        The pairs of each study, which are one family of tests.
    """
    found: list[Pair] = []
    for study in dict.fromkeys(run.study for run in runs):
        found += _pairs_of_study([run for run in runs if run.study == study], correct)
    return tuple(found)


def rank_of(row: RowKey, pairs: Sequence[Pair], others: int) -> str:
    """Return the place of a row among those of its study, or "tie" where a pair with it is open.

    So is the pair with one of the ``others`` of the study that shares no seed with it, or has no predictions.
    """
    own = [pair for pair in pairs if row in (pair.a, pair.b)]
    if not own or len(own) < others or any(pair.test.verdict not in ("better", "worse") for pair in own):
        return "tie"
    return str(1 + sum((pair.test.verdict == "worse") == (pair.a == row) for pair in own))


def smallest_difference(pairs: Sequence[Pair]) -> float | None:
    """The difference that a study would have shown four times in five, for all of its pairs; None without a verdict."""
    return max((pair.test.smallest for pair in pairs if not math.isnan(pair.test.smallest)), default=None)


def seeds_to_show_all(pairs: Sequence[Pair], wanted: float) -> int | None:
    """How many seeds would show a difference in all pairs of a study, and are more than it has.

    Returns:
        None where the test images are too few for any number.
    """
    tests = [pair.test for pair in pairs if not math.isnan(pair.test.smallest)]
    needed = [seeds_needed(test.difference, wanted, pairs[0].family) for test in tests]
    enough = [count for count in needed if count is not None]
    # Where pairs have unequal numbers, fewer might do for the worst.
    more = 1 + max(pair.test.difference.seeds for pair in pairs)
    return max(more, *enough) if len(enough) == len(needed) else None


def _pairs_of_study(runs: Sequence[FinalRun], correct: Correct) -> list[Pair]:
    rows: dict[RowKey, dict[int, NDArray[np.bool_]]] = {}
    for run in runs:
        if run.run_id in correct:
            rows.setdefault(run.id.row, {})[run.seed] = correct[run.run_id]
    differences, networks = {}, {}
    for a, b in itertools.combinations(rows, 2):
        common = sorted(rows[a].keys() & rows[b].keys())
        if common:
            differences[a, b] = difference(
                *(np.stack([rows[key][seed] for seed in common]) for key in (a, b))
            )
            networks[a, b] = {seed: discordance(rows[a][seed], rows[b][seed]) for seed in common}
    tests = compare_pairs(differences, runs[0].margin)  # the study's, the same in all of its runs
    family = sum(not math.isnan(test.p) for test in tests.values())
    return [Pair(*keys, test, family, networks[keys]) for keys, test in tests.items()]
