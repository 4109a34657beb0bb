"""The table of pairs."""

import math
from collections.abc import Iterator, Sequence

from optstudy.comparison.pairs import Pair, seeds_to_show_all, smallest_difference
from optstudy.comparison.table import Comparison
from optstudy.records.look import Looks
from optstudy.report.tables.table import p_label


def pair_columns(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Write the pairs as text: who, the difference in points with its interval, the p-value, the verdict on A."""
    several = len({pair.study for pair in comparison.pairs}) > 1
    headers = ["Study"] * several + ["A", "B", "A - B (points)", "Interval", "p (Holm)", "Verdict for A"]
    return headers, [
        [pair.study] * several + _pair_cells(pair, comparison.looks) for pair in comparison.pairs
    ]


def pair_caption(comparison: Comparison) -> str:
    """Say what the verdicts mean, what the study could have shown, and what would show more."""
    sentences: list[str] = []
    for study in dict.fromkeys(pair.study for pair in comparison.pairs):
        sentences += _family([pair for pair in comparison.pairs if pair.study == study])
    if sentences:
        sentences.append("Verdicts speak of these configurations, not of the optimizers at their best.")
    return " ".join(sentences)


def _pair_cells(pair: Pair, looks: Looks) -> list[str]:
    test = pair.test
    known = not math.isnan(test.p)
    return [
        looks.row(pair.a),
        looks.row(pair.b),
        f"{100 * test.difference.mean:+.2f}",
        f"{100 * test.low:+.2f} to {100 * test.high:+.2f}" if known else "--",
        p_label(test.p_holm) if known else "--",
        test.verdict,
    ]


def _family(pairs: Sequence[Pair]) -> Iterator[str]:
    """Say what the pairs of one study are, and how small a difference they could have shown."""
    study, judged, tests = pairs[0].study, pairs[0].family, [pair.test for pair in pairs]
    counts = sorted({test.difference.seeds for test in tests})
    seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    yield (
        f"Differences of {study} are over {seeds} common seed{'s' * (counts[-1] > 1)} and"
        f" {tests[0].difference.images:,} test images."
    )
    smallest = smallest_difference(pairs)
    if smallest is None:
        yield "One seed supports no verdict."
        return
    yield f"Intervals are Bonferroni's and p-values Holm's, over {judged} pair{'s' * (judged > 1)}."
    if any(test.verdict in ("better", "worse") and test.low < 0 < test.high for test in tests):
        yield "Holm's tests decide; Bonferroni's intervals are wider, and may hold zero where a difference is shown."
    if not smallest:  # all predictions are the same
        return
    yield (
        "The smallest difference that Bonferroni's test would have shown four times in five is"
        f" {100 * smallest:.2f} points, for the pair whose difference varies most;"
    )
    enough = seeds_to_show_all(pairs, smallest / 2)
    if enough is None:
        yield "no number of seeds would show half of that on so few test images."
    else:
        yield (
            f"to show half of that takes about {enough} seeds:"
            f" optstudy train --study {study}{_configs(pairs)} --seeds {enough}."
        )


def _configs(pairs: Sequence[Pair]) -> str:
    """Write the options that train the same configurations; the best ones need none."""
    names = dict.fromkeys(key.config for pair in pairs for key in (pair.a, pair.b))
    return "" if list(names) == ["best"] else "".join(f" --config {name}" for name in names)
