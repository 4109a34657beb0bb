"""The table of pairs."""

import math
from collections.abc import Iterator, Sequence

from optstudy.comparison.pairs import Pair, reach_of
from optstudy.comparison.table import Comparison
from optstudy.records.look import Looks
from optstudy.report.tables.table import p_label


def pair_columns(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Write the pairs as text: who, the difference in points with its interval, the p-value, the verdict on A."""
    several = len({pair.study for pair in comparison.pairs}) > 1
    headers = ["Study"] * several + ["A", "B", "A - B (points)", "Interval", "p (Holm)", "A is"]
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
    known = not math.isnan(pair.p)
    return [
        looks.row(pair.a),
        looks.row(pair.b),
        f"{100 * pair.difference:+.2f}",
        f"{100 * pair.low:+.2f} to {100 * pair.high:+.2f}" if known else "--",
        p_label(pair.p_holm) if known else "--",
        pair.verdict,
    ]


def _family(pairs: Sequence[Pair]) -> Iterator[str]:
    """Say what the pairs of one study are, and how small a difference they could have shown."""
    first, counts = pairs[0], sorted({pair.seeds for pair in pairs})
    seeds = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    judged = first.family
    yield (
        f"Differences of {first.study} are over {seeds} common seed{'s' * (counts[-1] > 1)} and"
        f" {first.images:,} test images."
    )
    reach = reach_of(pairs)
    if reach is None:
        yield "One seed supports no verdict."
        return
    yield f"Intervals are Bonferroni's and p-values Holm's, over {judged} pair{'s' * (judged > 1)}."
    if any(pair.verdict in ("better", "worse") and pair.low < 0 < pair.high for pair in pairs):
        yield "Holm's tests decide; Bonferroni's intervals are wider, and may hold zero where a difference is shown."
    if not reach.smallest:  # all predictions are the same
        return
    yield (
        "The smallest difference that Bonferroni's test would have shown four times in five is"
        f" {100 * reach.smallest:.2f} points, for the pair whose difference varies most;"
    )
    if reach.seeds is None:
        yield "no number of seeds would show half of that on so few test images."
    else:
        yield (
            f"to show half of that takes about {reach.seeds} seeds:"
            f" optstudy train --study {first.study}{_configs(pairs)} --seeds {reach.seeds}."
        )


def _configs(pairs: Sequence[Pair]) -> str:
    """Write the options that train the same configurations; the best ones need none."""
    names = dict.fromkeys(row.rpartition("/")[2] for pair in pairs for row in (pair.a, pair.b))
    return "" if list(names) == ["best"] else "".join(f" --config {name}" for name in names)
