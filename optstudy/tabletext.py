"""The comparison as text: the cells of its tables, what is said under them, and each format."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Literal

from optstudy.errors import UsageError
from optstudy.searchtext import tuning_table
from optstudy.summarytext import classes_table, cost_table, geometry_table, networks_table
from optstudy.table import Accuracy, Comparison, Row
from optstudy.tablecells import Table, named, p_label, row_label
from optstudy.verdicts import Pair, reach_of

Format = Literal["markdown", "latex", "csv"]
Metric = Literal["accuracy", "cost", "geometry", "classes", "networks", "tuning"]
_WORDS = (
    "Study",
    "Optimizer",
    "Config",
    "A",
    "B",
    "A is",
    "Verdicts",
    "Ended",
    "Chosen",
)  # headers of columns that hold words


def columns(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Write every cell of the table as text, the same for the terminal, Markdown and LaTeX.

    Returns:
        Headers, and as many cells a row: study (only of several), optimizer, configuration, seeds, accuracies
        in per cent, "± half width" where it is known. The paper's values have columns of their own where any
        row has some; "--" stands where there is none.
    """
    published = any(row.test_accuracy.paper is not None for row in comparison.rows)
    headers = [*named(comparison), "Seeds"]
    for part in ("Train", "Test"):
        headers += [f"{part} (%)"] + ["Paper's", "Diff."] * published
    cells = [_cells(comparison, row, published=published) for row in comparison.rows]
    if not comparison.pairs:
        return headers, cells
    return [*headers, "Rank"], [[*some, row.rank] for some, row in zip(cells, comparison.rows, strict=True)]


def pair_columns(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Write the pairs as text: who, the difference in points with its interval, the p-value, the verdict on A."""
    several = len({pair.study for pair in comparison.pairs}) > 1
    headers = ["Study"] * several + ["A", "B", "A - B (points)", "Interval", "p (Holm)", "A is"]
    return headers, [[pair.study] * several + _pair_cells(pair) for pair in comparison.pairs]


def pair_caption(comparison: Comparison) -> str:
    """Say what the verdicts mean, what the study could have shown, and what would show more."""
    sentences: list[str] = []
    for study in dict.fromkeys(pair.study for pair in comparison.pairs):
        sentences += _family([pair for pair in comparison.pairs if pair.study == study])
    if sentences:
        sentences.append("Verdicts speak of these configurations, not of the optimizers at their best.")
    return " ".join(sentences)


def caption(comparison: Comparison) -> str:
    """Say what the numbers of the table are and what was left out, for printing under it."""
    rows = comparison.rows
    sentences = [] if rows else ["There are no finished final runs."]
    if any(row.seeds > 1 for row in rows):
        sentences += [
            "Accuracy is the mean over seeds, ± half the width of its 95 % Student t interval over seeds.",
            "The interval leaves out the sampling error of the test images.",
        ]
    if any(row.test_accuracy.paper is not None for row in rows):
        sentences += ["The paper's values are of one seed; Diff. is ours less these, in points."]
    if any(row.seeds == 1 for row in rows):
        sentences += ["One seed shows no spread."]
    if comparison.pairs:
        sentences += [
            "A row has a rank where each of its pairs is decided; tie means that at least one is open."
        ]
    if diverged := sum(row.diverged for row in rows):
        sentences += [f"Diverged runs ({diverged}) count with the accuracy that they have."]
    if left_out := ", ".join(f"{count} {why}" for why, count in comparison.excluded.items() if count):
        sentences += [f"Runs left out: {left_out}."]
    return " ".join(sentences)


def tables_of(comparison: Comparison, metric: Metric = "accuracy") -> list[Table]:
    """Return the tables that show a metric."""
    if metric == "cost":
        return [cost_table(comparison)]
    if metric == "geometry":
        return [geometry_table(comparison)]
    if metric == "classes":
        return [classes_table(comparison)]
    if metric == "tuning":
        return [tuning_table(comparison)]
    if metric == "networks":
        return [networks_table(comparison)]
    tables = [Table(*columns(comparison), caption(comparison), "tab:comparison")]
    if comparison.pairs:
        tables.append(Table(*pair_columns(comparison), pair_caption(comparison), "tab:pairs"))
    return tables


def render(
    comparison: Comparison,
    format: Format,  # noqa: A002 - named like the flag --format
    metric: Metric = "accuracy",
) -> str:
    """Write the comparison as text.

    Args:
        comparison: What ``compare`` returned.
        format: ``markdown`` and ``latex`` (for the package booktabs) hold the cells of ``tables_of`` and their
            captions; ``csv`` holds the plain numbers of ``to_pandas``, accuracies as fractions, and of other metrics
            the cells of their table.
        metric: What the tables show.

    Returns:
        The text, ending with a newline.

    Raises:
        UsageError: If there is no such format.
    """
    if format == "csv":
        return (
            comparison.to_pandas().to_csv(index=False) if metric == "accuracy" else _csv(comparison, metric)
        )
    if format not in ("markdown", "latex"):
        raise UsageError(f"format is {format!r}; give markdown, latex or csv")
    write = _markdown if format == "markdown" else _latex
    return "\n".join(write(table) for table in tables_of(comparison, metric))


def _cells(comparison: Comparison, row: Row, *, published: bool) -> list[str]:
    seeds = f"{row.seeds} ({row.diverged} diverged)" if row.diverged else str(row.seeds)
    cells = [*named(comparison, row), seeds]
    for accuracy in (row.train_accuracy, row.test_accuracy):
        cells += [_percent(accuracy)] + _beside(accuracy) * published
    return cells


def _beside(accuracy: Accuracy) -> list[str]:
    """Write the paper's value, and ours less it in points."""
    if accuracy.paper is None:
        return ["--", "--"]
    return [f"{100 * accuracy.paper:.2f}", f"{100 * (accuracy.mean - accuracy.paper):+.2f}"]


def _pair_cells(pair: Pair) -> list[str]:
    known = not math.isnan(pair.p)
    return [
        row_label(pair.a),
        row_label(pair.b),
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


def _percent(accuracy: Accuracy) -> str:
    if accuracy.low is None or accuracy.high is None:
        return f"{100 * accuracy.mean:.2f}"
    return f"{100 * accuracy.mean:.2f} ± {50 * (accuracy.high - accuracy.low):.2f}"


def alignment(headers: Sequence[str]) -> list[Literal["left", "right"]]:
    """Return on which side the cells of each column stand: words left, numbers right."""
    return ["left" if name in _WORDS else "right" for name in headers]


def _csv(comparison: Comparison, metric: Metric) -> str:
    import pandas as pd

    [table] = tables_of(comparison, metric)
    return pd.DataFrame(table.cells, columns=table.headers).to_csv(index=False)


def _markdown(table: Table) -> str:
    import pandas as pd

    frame = pd.DataFrame(table.cells, columns=table.headers)
    # tabulate would read the cells as numbers and print 98.90 as 98.9.
    text = frame.to_markdown(index=False, disable_numparse=True, colalign=alignment(table.headers))
    return f"{text}\n\n{table.caption}\n"


def _latex(table: Table) -> str:
    import pandas as pd

    escaped = pd.DataFrame(
        [[_escape(cell) for cell in row] for row in table.cells],
        columns=[_escape(name) for name in table.headers],
    )
    written = escaped.to_latex(
        index=False,
        column_format="".join(side[0] for side in alignment(table.headers)),
        caption=_escape(table.caption),
        label=table.label,
    )
    # Over both columns of a paper that has two, and narrow enough for one that has one.
    narrow = "\\begin{table*}\n\\centering\\footnotesize\\setlength{\\tabcolsep}{2.4pt}"
    return written.replace(r"\begin{table}", narrow).replace(r"\end{table}", r"\end{table*}")


def _escape(text: str) -> str:
    special = {ord(letter): f"\\{letter}" for letter in "&%$#_{}"}
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    words |= {"<": "$<$", ">": "$>$"}  # LaTeX's own font has Spanish marks there
    escaped = text.translate(special | {ord(letter): word for letter, word in words.items()})
    return re.sub(r"--(?=\w)", "-{}-", escaped)  # two hyphens before an option's name, not a dash
