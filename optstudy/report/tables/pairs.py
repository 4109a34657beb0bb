"""The pair table (difference, interval, p, verdict), and the networks table (McNemar's test of each seed)."""

import math
from collections.abc import Iterator, Sequence

from optstudy.comparison.pairs import Pair, seeds_to_detect, smallest_difference
from optstudy.comparison.table import Comparison
from optstudy.report.tables.table import (
    UNKNOWN,
    Column,
    Table,
    count_label,
    number_column,
    p_label,
    study_column,
    text_column,
)
from optstudy.statistics import PairTest


def pair_table(comparison: Comparison) -> Table:
    """Return the table of pairs: difference in points with its interval, p-value, and verdict for A."""
    tests = [pair.test for pair in comparison.pairs]
    columns = [
        *pair_columns(comparison, comparison.pairs),
        number_column("A - B (points)", (f"{100 * test.difference.mean:+.2f}" for test in tests)),
        number_column("Interval", map(_interval, tests)),
        number_column(
            "p (Holm)", (UNKNOWN if math.isnan(test.p) else p_label(test.p_holm) for test in tests)
        ),
        text_column("Verdict for A", (test.verdict for test in tests)),
    ]
    return Table(tuple(columns), pair_caption(comparison), "tab:pairs")


def networks_table(comparison: Comparison) -> Table:
    """Return the table of McNemar's tests between the two networks of each seed."""
    tests = [(pair, seed, result) for pair in comparison.pairs for seed, result in pair.networks.items()]
    columns = [
        *pair_columns(comparison, [pair for pair, _, _ in tests]),
        number_column("Seed", (str(seed) for _, seed, _ in tests)),
        number_column("only A correct", (str(result.first_only) for _, _, result in tests)),
        number_column("only B correct", (str(result.second_only) for _, _, result in tests)),
        number_column("p (McNemar)", (p_label(result.p) for _, _, result in tests)),
    ]
    caption = (
        "McNemar's exact test of these two networks, on the test examples that only one of them classifies correctly."
        " It says nothing about their optimizers: between equal ones it claims a difference far more often than it"
        " should, since another seed gives another network."
    )
    return Table(tuple(columns), caption, "tab:networks")


def pair_columns(comparison: Comparison, pairs: Sequence[Pair]) -> list[Column]:
    """Return the columns that name pairs of a comparison."""
    looks = comparison.looks
    return [
        *study_column(pair.study for pair in pairs),
        text_column("A", (looks.row_label(pair.a) for pair in pairs)),
        text_column("B", (looks.row_label(pair.b) for pair in pairs)),
    ]


def _interval(test: PairTest) -> str:
    return UNKNOWN if math.isnan(test.p) else f"{100 * test.low:+.2f} to {100 * test.high:+.2f}"


def pair_caption(comparison: Comparison) -> str:
    """Describe the tests of each study, the smallest difference they detect, and the seeds needed for half of it."""
    sentences: list[str] = []
    for study in dict.fromkeys(pair.study for pair in comparison.pairs):
        sentences += _study_sentences([pair for pair in comparison.pairs if pair.study == study])
    if sentences:
        sentences.append("Verdicts compare these configurations, not the optimizers at their best.")
    return " ".join(sentences)


def _study_sentences(pairs: Sequence[Pair]) -> Iterator[str]:
    """Yield the sentences on one study's pairs."""
    study, family, tests = pairs[0].study, pairs[0].family, [pair.test for pair in pairs]
    common = count_label("common seed", (test.difference.seeds for test in tests))
    yield f"Differences of {study} are over {common} and {tests[0].difference.images:,} test examples."
    smallest = smallest_difference(pairs)
    if smallest is None:
        yield "One seed supports no verdict."
        return
    yield f"Intervals are Bonferroni's and p-values Holm's, over {count_label('pair', [family])}."
    if any(test.verdict in ("better", "worse") and test.low < 0 < test.high for test in tests):
        yield (
            "Holm's tests decide; Bonferroni's intervals are wider, and may contain zero although a difference is"
            " significant."
        )
    if not smallest:  # all predictions are the same
        return
    if any(test.low < -1 and test.high > 1 for test in tests):
        yield "An interval from below -100 to above +100 points contains every possible difference."
    if smallest > 1:
        effect, wanted = 0.5, "one of 50 points"
        yield (
            "With so few seeds, Bonferroni's test detects no difference of accuracies with a power of 80 %, not even"
            " one of 100 points, for the pair whose difference varies most;"
        )
    else:
        effect, wanted = smallest / 2, "half of that"
        yield (
            "The smallest difference that Bonferroni's test detects with a power of 80 % is"
            f" {100 * smallest:.2f} points, for the pair whose difference varies most;"
        )
    seeds = seeds_to_detect(pairs, effect)
    if seeds is None:
        yield f"no number of seeds would detect {wanted} on so few test examples."
    else:
        yield (
            f"to detect {wanted} takes about {seeds} seeds:"
            f" optstudy train --study {study}{_configs(pairs)} --seeds {seeds}."
        )


def _configs(pairs: Sequence[Pair]) -> str:
    """Return the options that train the same configurations; none for the best ones."""
    names = dict.fromkeys(key.config for pair in pairs for key in (pair.a, pair.b))
    return "" if list(names) == ["best"] else "".join(f" --config {name}" for name in names)
