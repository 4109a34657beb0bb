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

Correct = Mapping[str, NDArray[np.bool_]]  # which test images are classified correctly, by run ID


@dataclass(frozen=True)
class Pair:
    """Test accuracy of A minus that of B, over the seeds that both have."""

    a: RowKey
    b: RowKey
    test: PairTest  # unknown numbers, such as the interval of a single seed, are nan
    family: int  # number of pairs tested together, this one included
    networks: Mapping[int, Discordance] = field(default_factory=dict)  # by seed; no verdict depends on them

    @property
    def study(self) -> str:
        """The study of both rows."""
        return self.a.study

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; unknown numbers are None."""
        test, difference = self.test, self.test.difference
        networks = [
            {"seed": seed, "a_alone": network.first_only, "b_alone": network.second_only, "p": network.p}
            for seed, network in self.networks.items()
        ]
        content = {
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
        return dict(plain(content))


def pair_rows(runs: Sequence[FinalRun], correct: Correct) -> tuple[Pair, ...]:
    """Compare all pairs of rows of each study.

    Args:
        runs: Final runs, each seed of a configuration once; A comes before B in this order.
        correct: Correctly classified images of each run; runs without are left out.

    Returns:
        The pairs of each study, which are one family of tests.
    """
    pairs: list[Pair] = []
    for study in dict.fromkeys(run.study for run in runs):
        pairs += _pair_rows_of_study([run for run in runs if run.study == study], correct)
    return tuple(pairs)


def row_rank(row: RowKey, pairs: Sequence[Pair], others: int) -> str:
    """Return the rank of a row in its study, or "tie" if one of its pairs is undecided.

    A pair is missing, and so undecided, if the two rows share no seed or one has no predictions; ``others`` is the
    number of other rows in the study.
    """
    own = [pair for pair in pairs if row in (pair.a, pair.b)]
    if not own or len(own) < others or any(pair.test.verdict not in ("better", "worse") for pair in own):
        return "tie"
    return str(1 + sum((pair.test.verdict == "worse") == (pair.a == row) for pair in own))


def smallest_difference(pairs: Sequence[Pair]) -> float | None:
    """Return the difference that all pairs of a study detect with 80 % power; None without a verdict."""
    return max((pair.test.smallest for pair in pairs if not math.isnan(pair.test.smallest)), default=None)


def seeds_to_show_all(pairs: Sequence[Pair], wanted: float) -> int | None:
    """Return the number of seeds that detects a difference in all pairs of a study, more than it has.

    Returns:
        None if there are too few test images for any number of seeds.
    """
    tests = [pair.test for pair in pairs if not math.isnan(pair.test.smallest)]
    needed = [seeds_needed(test.difference, wanted, pairs[0].family) for test in tests]
    enough = [count for count in needed if count is not None]
    # Pairs may have unequal numbers of seeds, so that fewer could suffice for the worst of them.
    more = 1 + max(pair.test.difference.seeds for pair in pairs)
    return max(more, *enough) if len(enough) == len(needed) else None


def _pair_rows_of_study(runs: Sequence[FinalRun], correct: Correct) -> list[Pair]:
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
    tests = compare_pairs(differences, runs[0].margin)  # the same in all runs of the study
    family = sum(not math.isnan(test.p) for test in tests.values())
    return [Pair(*keys, test, family, networks[keys]) for keys, test in tests.items()]
