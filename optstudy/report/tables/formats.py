"""Write the tables of a comparison as LaTeX, Markdown or CSV."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from optstudy.comparison.table import Comparison
from optstudy.errors import UsageError
from optstudy.report.escape import csv_cell, latex_text, markdown_text
from optstudy.report.tables.accuracy import accuracy_table
from optstudy.report.tables.classes import classes_table
from optstudy.report.tables.cost import cost_table
from optstudy.report.tables.geometry import geometry_table
from optstudy.report.tables.pairs import networks_table, pair_table
from optstudy.report.tables.sources import source_sentences
from optstudy.report.tables.table import Table
from optstudy.report.tables.tuning import tuning_table

Format = Literal["markdown", "latex", "csv"]
Metric = Literal["accuracy", "cost", "geometry", "classes", "networks", "tuning"]


def build_tables(comparison: Comparison, metric: Metric = "accuracy") -> list[Table]:
    """Build the tables of a metric; the caption of the first one names source files that differ between its runs."""
    first = accuracy_table(comparison) if metric == "accuracy" else _TABLES[metric](comparison)
    caption = " ".join([first.caption, *source_sentences(comparison.sources)])
    pairs = [pair_table(comparison)] if metric == "accuracy" and comparison.pairs else []
    return [replace(first, caption=caption), *pairs]


_TABLES: Mapping[str, Callable[[Comparison], Table]] = {
    "cost": cost_table,
    "geometry": geometry_table,
    "classes": classes_table,
    "networks": networks_table,
    "tuning": tuning_table,
}


def render(
    comparison: Comparison,
    format: Format,  # noqa: A002 - named like the flag --format
    metric: Metric = "accuracy",
) -> str:
    """Write the tables of a comparison as text.

    Args:
        comparison: The comparison.
        format: ``markdown`` and ``latex`` (for the package booktabs) hold the cells of ``build_tables`` and their
            captions; ``csv`` holds the plain numbers of ``to_pandas``, accuracies as fractions, and of other metrics
            the cells of their table.
        metric: The table to write.

    Returns:
        The text, ending with a newline.

    Raises:
        UsageError: If the format is unknown.
    """
    if format == "csv":
        return _csv(comparison, metric)
    if format not in ("markdown", "latex"):
        raise UsageError(f"format is {format!r}; give markdown, latex or csv")
    write = _markdown if format == "markdown" else _latex
    return "\n".join(write(table) for table in build_tables(comparison, metric))


def _csv(comparison: Comparison, metric: Metric) -> str:
    import pandas as pd

    if metric == "accuracy":
        frame = comparison.to_pandas()
        texts = list(frame.select_dtypes("str"))
    else:
        [table] = build_tables(comparison, metric)
        frame = pd.DataFrame(table.rows, columns=table.headers)
        texts = [column.header for column in table.columns if not column.numeric]
    frame[texts] = frame[texts].map(csv_cell)
    return frame.to_csv(index=False)


def _markdown(table: Table) -> str:
    import pandas as pd

    rows = [[markdown_text(cell) for cell in row] for row in table.rows]
    frame = pd.DataFrame(rows, columns=table.headers)
    # tabulate would parse the cells as numbers and print 98.90 as 98.9.
    text = frame.to_markdown(
        index=False, disable_numparse=True, colalign=[column.side for column in table.columns]
    )
    return f"{text}\n\n{markdown_text(table.caption)}\n"


def _latex(table: Table) -> str:
    import pandas as pd

    escaped = pd.DataFrame(
        [[latex_text(cell) for cell in row] for row in table.rows],
        columns=[latex_text(name) for name in table.headers],
    )
    written = escaped.to_latex(
        index=False,
        column_format="".join(column.side[0] for column in table.columns),
        caption=latex_text(table.caption),
        label=table.label,
    )
    # Across both columns of a two-column paper, and narrow enough for a single column.
    narrow = "\\begin{table*}\n\\centering\\footnotesize\\setlength{\\tabcolsep}{2.4pt}"
    return written.replace(r"\begin{table}", narrow).replace(r"\end{table}", r"\end{table*}")
