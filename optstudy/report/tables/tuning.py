"""The searches of a comparison as text."""

from typing import Any

from optstudy.comparison.table import Comparison
from optstudy.records.look import Looks
from optstudy.records.search import SearchResult, count_states
from optstudy.report.tables.table import Table

UNKNOWN = "--"


def tuning_table(comparison: Comparison) -> Table:
    """Write what each search found, and what it took."""
    several = len({one.study for one in comparison.searches}) > 1
    headers = ["Optimizer", "Trials", "Ended", "Gradient work", "Score", "Score again", "Chosen"]
    cells = [[one.study] * several + _cells(one, comparison.looks) for one in comparison.searches]
    again = any(one.finalists for one in comparison.searches)
    counted = "all trials, and of the best ones trained again" if again else "all trials"
    work = (
        f"Gradient work is of {counted}: a forward and backward pass of one mini-batch is 1, a Hessian product 2;"
        " equal trials are not equal work."
    )
    score = (
        "The score is that of the chosen trial on the validation images, the highest or one of the highest of many,"
        " and so flatters it."
    )
    sentences = [work, score]
    if again:
        sentences.append(
            "The best trials were trained again from other seeds before one was chosen; the score again is the chosen"
            " one's mean over these."
        )
    if not comparison.searches:
        sentences = ["There are no finished searches."]
    return Table(["Study"] * several + headers, cells, " ".join(sentences), "tab:tuning")


def _cells(one: SearchResult, looks: Looks) -> list[str]:
    config = {} if one.best is None else one.best.params
    return [
        looks[one.optimizer].label,
        str(len(one.trials)),
        ", ".join(f"{count} {state}" for state, count in count_states(one.trials).items()),
        f"{one.gradient_work:,.0f}",
        _score(one.best.score if one.best else None, one.objective),
        _score(one.best_mean, one.objective),
        ", ".join(f"{name} {value_label(value)}" for name, value in config.items()) or UNKNOWN,
    ]


def value_label(value: Any) -> str:
    """Return a hyperparameter's value as a table shows it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _score(score: float | None, objective: str) -> str:
    if score is None:
        return UNKNOWN
    return f"{100 * score:.2f} %" if objective == "accuracy" else f"{score:.4f}"
