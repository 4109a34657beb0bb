"""The tuning table: trials, outcomes, gradient work, scores and chosen configuration of each search."""

from collections.abc import Sequence
from typing import Any

from optstudy.comparison.table import Comparison
from optstudy.records.search import Objective, SearchResult, count_states
from optstudy.report.tables.table import (
    UNKNOWN,
    Table,
    number_column,
    reasons_label,
    study_column,
    text_column,
)


def tuning_table(comparison: Comparison) -> Table:
    """Return the table of searches: their cost, scores and selected configuration."""
    searches = comparison.searches
    columns = [
        *study_column(search.study for search in searches),
        text_column("Optimizer", (comparison.looks[search.optimizer].label for search in searches)),
        number_column("Trials", map(_trials, searches)),
        text_column("Outcomes", map(_outcomes, searches)),
        number_column("Gradient work", (f"{search.gradient_work:,.0f}" for search in searches)),
        number_column(
            "Score",
            (
                score_label(search.best.score if search.best else None, search.objective)
                for search in searches
            ),
        ),
        number_column(
            "Retrained score", (score_label(search.best_mean, search.objective) for search in searches)
        ),
        text_column("Configuration", map(_configuration, searches)),
    ]
    if any(search.failures for search in searches):
        reasons = (reasons_label("trial", search.failures) or UNKNOWN for search in searches)
        columns.append(text_column("Failures", reasons))
    return Table(tuple(columns), _caption(searches), "tab:tuning")


def _caption(searches: Sequence[SearchResult]) -> str:
    if not searches:
        return "There are no finished searches."
    retrained = any(search.finalists for search in searches)
    counted = "all trials and of the retrained finalists" if retrained else "all trials"
    caption = (
        f"Gradient work is that of {counted}: a forward and backward pass of one mini-batch is 1, a Hessian product 2;"
        " equal trials are not equal work. The score is that of the chosen trial on the validation examples; as one of"
        " the highest of many, it is biased upwards."
    )
    if any(search.distinct < len(search.trials) for search in searches):
        caption += " A configuration that was tried again gave the same run again: only distinct ones count."
    if retrained:
        caption += (
            " The best trials were retrained from other seeds before one was chosen; the retrained score is its mean"
            " over these seeds, where a score that is not finite counts as the worst."
        )
    return caption


def _trials(search: SearchResult) -> str:
    count = str(len(search.trials))
    return count if search.distinct == len(search.trials) else f"{count} ({search.distinct} distinct)"


def _outcomes(search: SearchResult) -> str:
    return ", ".join(f"{count} {state}" for state, count in count_states(search.trials).items())


def _configuration(search: SearchResult) -> str:
    params = search.best.params if search.best else {}
    return ", ".join(f"{name} {value_label(value)}" for name, value in params.items()) or UNKNOWN


def value_label(value: Any) -> str:
    """Format the value of a hyperparameter."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def score_label(score: float | None, objective: Objective) -> str:
    """Format a validation score."""
    if score is None:
        return UNKNOWN
    return f"{100 * score:.2f} %" if objective == "accuracy" else f"{score:.4f}"
