"""Pair the rows of a comparison and rank them; tests and verdicts are computed in `optstudy.statistics.pairs`."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optstudy.records.io import replace_nonfinite
from optstudy.records.naming import RowKey
from optstudy.records.run import FinalRun
from optstudy.statistics import Discordance, PairTest, compare_pairs, difference, discordance, seeds_needed

CorrectMasks = Mapping[str, NDArray[np.bool_]]  # masks of the correctly classified test images, by run ID


@dataclass(frozen=True)
class Pair:
    """Test accuracy of A minus that of B, over their common seeds."""

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
            "smallest": test.smallest_detectable if test.smallest_detectable <= 1 else None,
            "seed_variance": difference.seed_variance,
            "image_variance": difference.image_variance,
            "family": self.family,
            "networks": networks,
        }
        return dict(replace_nonfinite(content))


def pair_rows(runs: Sequence[FinalRun], correct: CorrectMasks) -> tuple[Pair, ...]:
    """Compare all pairs of rows of each study.

    Args:
        runs: Final runs, at most one per seed of a configuration; the row that comes first is A.
        correct: Masks of correctly classified images; runs without a mask are omitted.

    Returns:
        All pairs; the pairs of a study are one family of tests.
    """
    pairs: list[Pair] = []
    for study in dict.fromkeys(run.study for run in runs):
        pairs += _pair_rows_of_study([run for run in runs if run.study == study], correct)
    return tuple(pairs)


def row_rank(row: RowKey, pairs: Sequence[Pair], other_rows: int) -> str:
    """Return the rank of a row in its study, or "tie" if one of its pairs is undecided.

    A pair whose rows share no seed, or lack predictions, is missing and counts as undecided; ``other_rows`` is the
    number of other rows in the study.
    """
    row_pairs = [pair for pair in pairs if row in (pair.a, pair.b)]
    if (
        not row_pairs
        or len(row_pairs) < other_rows
        or any(pair.test.verdict not in ("better", "worse") for pair in row_pairs)
    ):
        return "tie"
    return str(1 + sum((pair.test.verdict == "worse") == (pair.a == row) for pair in row_pairs))


def smallest_difference(pairs: Sequence[Pair]) -> float | None:
    """Return the smallest difference that every pair of a study detects with 80 % power; None without a verdict."""
    return max(
        (pair.test.smallest_detectable for pair in pairs if not math.isnan(pair.test.smallest_detectable)),
        default=None,
    )


def seeds_to_detect(pairs: Sequence[Pair], effect: float) -> int | None:
    """Return the number of seeds, more than a study has, that detects a difference in every pair.

    Returns:
        None if no number of seeds suffices on so few test images.
    """
    tests = [pair.test for pair in pairs if not math.isnan(pair.test.smallest_detectable)]
    needed = [seeds_needed(test.difference, effect, pairs[0].family) for test in tests]
    finite = [count for count in needed if count is not None]
    # Pairs may differ in their number of seeds, and the pair that needs most seeds may have fewer than another.
    minimum = 1 + max(pair.test.difference.seeds for pair in pairs)
    return max(minimum, *finite) if len(finite) == len(needed) else None


def _pair_rows_of_study(runs: Sequence[FinalRun], correct: CorrectMasks) -> list[Pair]:
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
