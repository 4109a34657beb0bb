"""The pairs of a comparison: how far two optimizers of a study are apart, and what may be said of it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optstudy.records.io import plain
from optstudy.records.run import FinalRun
from optstudy.statistics import Difference, Judged, Verdict, difference, discordance, judge, seeds_to_show

Correct = Mapping[str, NDArray[np.bool_]]  # which test images a run classifies right, by its ID


@dataclass(frozen=True)
class Networks:
    """Two networks of the same seed on the same images: McNemar's test, which decides nothing of their optimizers."""

    seed: int
    a_alone: int  # images that A's alone classifies right
    b_alone: int
    p: float


@dataclass(frozen=True)
class Pair:
    """Test accuracy of A minus that of B, over the seeds that both have; see `optstudy.statistics.judge`.

    What is not known, as an interval of a single seed, is nan.
    """

    study: str
    a: str  # optimizer/config
    b: str
    seeds: int
    images: int
    difference: float  # fraction
    low: float
    high: float
    p: float
    p_holm: float
    verdict: Verdict  # of A
    smallest: float  # difference that would have been shown four times in five
    seed_variance: float  # of the difference, from seed to seed
    image_variance: float  # of its mean, from the choice of test images
    family: int  # pairs that were judged together, this one among them
    networks: tuple[Networks, ...] = ()  # seed by seed

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; null where a number is not known."""
        found: dict[str, Any] = plain(asdict(self))
        return found


def pairs_of(runs: Sequence["FinalRun"], correct: Correct) -> tuple[Pair, ...]:
    """Judge all pairs of optimizer and configuration, study by study.

    Args:
        runs: Final runs, each seed of a configuration once; in the order in which A comes before B.
        correct: Of each run; runs that it lacks are left out.

    Returns:
        The pairs of each study, which are one family of tests.
    """
    found: list[Pair] = []
    for study in dict.fromkeys(run.study for run in runs):
        found += _pairs_of_study(study, [run for run in runs if run.study == study], correct)
    return tuple(found)


def rank_of(row: str, study: str, pairs: Sequence[Pair], others: int) -> str:
    """Return the place of ``optimizer/config`` among those of its study, or "tie" where a pair with it is open.

    So is the pair with one of the ``others`` of the study that shares no seed with it, or has no predictions.
    """
    own = [pair for pair in pairs if pair.study == study and row in (pair.a, pair.b)]
    if not own or len(own) < others or any(pair.verdict not in ("better", "worse") for pair in own):
        return "tie"
    return str(1 + sum((pair.verdict == "worse") == (pair.a == row) for pair in own))


@dataclass(frozen=True)
class Reach:
    """What a study could have shown, four times in five and for all of its pairs, and what would show half of it."""

    study: str
    smallest: float  # fraction
    seeds: int | None  # that would show half of that; None where the test images are too few for any number


def reach_of(pairs: Sequence[Pair]) -> Reach | None:
    """Say how small a difference the pairs of one study could have shown; None without a verdict."""
    known = [pair for pair in pairs if not math.isnan(pair.smallest)]
    if not known:
        return None
    smallest = max(pair.smallest for pair in known)
    needed = [seeds_to_show(_difference_of(pair), smallest / 2, pair.family) for pair in known]
    enough = [count for count in needed if count is not None]
    more = 1 + max(
        pair.seeds for pair in pairs
    )  # where pairs have unequal numbers, fewer might do for the worst
    return Reach(known[0].study, smallest, max(more, *enough) if len(enough) == len(needed) else None)


def _difference_of(pair: Pair) -> Difference:
    return Difference(pair.difference, pair.seed_variance, pair.image_variance, pair.seeds, pair.images)


def _pairs_of_study(study: str, runs: Sequence["FinalRun"], correct: Correct) -> list[Pair]:
    rows: dict[str, dict[int, NDArray[np.bool_]]] = {}
    for run in runs:
        if run.run_id in correct:
            rows.setdefault(f"{run.optimizer}/{run.config}", {})[run.seed] = correct[run.run_id]
    differences, networks = {}, {}
    for a, b in itertools.combinations(rows, 2):
        common = sorted(rows[a].keys() & rows[b].keys())
        if common:
            differences[a, b] = difference(
                *(np.stack([rows[name][seed] for seed in common]) for name in (a, b))
            )
            networks[a, b] = tuple(_networks(seed, rows[a][seed], rows[b][seed]) for seed in common)
    judged = judge(differences, runs[0].margin)  # the study's, the same in all of its runs
    family = sum(not math.isnan(found.p) for found in judged.values())
    return [_pair(study, *names, found, family, networks[names]) for names, found in judged.items()]


def _networks(seed: int, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Networks:
    found = discordance(a, b)
    return Networks(seed, found.first_only, found.second_only, found.p)


def _pair(study: str, a: str, b: str, found: Judged, family: int, networks: tuple[Networks, ...]) -> Pair:
    return Pair(
        study=study,
        a=a,
        b=b,
        seeds=found.difference.seeds,
        images=found.difference.images,
        difference=found.difference.mean,
        low=found.low,
        high=found.high,
        p=found.p,
        p_holm=found.p_holm,
        verdict=found.verdict,
        smallest=found.smallest,
        seed_variance=found.difference.by_seed,
        image_variance=found.difference.by_image,
        family=family,
        networks=networks,
    )
