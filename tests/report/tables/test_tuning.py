"""The searches of a comparison as a table."""

from dataclasses import replace
from typing import Any

import evidence
import pytest
from evidence import TRIALS, trial
from finals import LOOKS

from optstudy.comparison.table import Comparison
from optstudy.records.search import Finalist, SearchResult
from optstudy.report.tables.formats import render
from optstudy.report.tables.tuning import tuning_table, value_label

SEARCH = SearchResult("quick", evidence.space("sgd"), "accuracy", TRIALS, TRIALS[3])


def shown(*searches: SearchResult) -> list[list[str]]:
    return tuning_table(Comparison((), (), {}, searches, LOOKS)).rows


def trained_again(*scores: float | None) -> tuple[Finalist, ...]:
    """Return the finalist that is chosen."""
    return (Finalist(3, tuple(range(len(scores))), scores, 30.0),)


def test_a_search_without_a_completed_trial_shows_no_choice() -> None:
    trials = (trial(0, "failed", None, 0.0), trial(1, "pruned", 0.4, 3.0))

    assert shown(replace(SEARCH, trials=trials, best=None)) == [
        ["SGD", "2", "1 failed, 1 pruned", "3", "--", "--", "--"]
    ]


def test_reasons_of_failed_trials_are_counted_in_a_column_of_their_own() -> None:
    reasons = ["ValueError: lr", "ValueError: lr", "x" * 300, "KeyError: 1", "KeyError: 2"]
    trials = [replace(trial(n, "failed", None, 0.0), problem=reason) for n, reason in enumerate(reasons)]

    table = tuning_table(Comparison((), (), {}, (replace(SEARCH, trials=tuple(trials)), SEARCH), LOOKS))

    assert table.headers[-1] == "Failures"
    assert [row[-1] for row in table.rows] == [
        f"ValueError: lr (2 trials); {'x' * 157}... (1 trial); KeyError: 1 (1 trial); and 1 other reason",
        "--",
    ]


def test_a_bar_in_a_reason_ends_no_cell_of_markdown() -> None:
    trials = (replace(trial(0, "failed", None, 0.0), problem="TypeError: int | None"),)

    text = render(
        Comparison((), (), {}, (replace(SEARCH, trials=trials, best=None),), LOOKS), "markdown", "tuning"
    )

    assert r"TypeError: int \| None (1 trial)" in text


@pytest.mark.parametrize(
    ("objective", "scores", "score", "again"),
    [
        ("accuracy", (0.5, 0.75), "75.00 %", "62.50 %"),
        ("accuracy", (0.5, None), "75.00 %", "25.00 %"),
        ("loss", (0.5, 0.75), "0.7500", "0.6250"),
    ],
)
def test_the_table_shows_a_line_for_each_search(
    objective: Any, scores: tuple[float | None, ...], score: str, again: str
) -> None:
    found = replace(SEARCH, objective=objective, finalists=trained_again(*scores))

    assert shown(found) == [
        ["SGD", "6", "3 completed, 1 diverged, 1 failed, 1 pruned", "69", score, again, "lr 0.3"]
    ]


def test_the_study_is_named_where_there_are_several() -> None:
    table = tuning_table(Comparison((), (), {}, (SEARCH, replace(SEARCH, study="later"))))

    assert table.headers[0] == "Study"
    assert [row[0] for row in table.rows] == ["quick", "later"]
    assert {len(row) for row in table.rows} == {len(table.headers)}


@pytest.mark.parametrize(("finalists", "said"), [((), False), (trained_again(0.5), True)])
def test_the_caption_mentions_finalists_only_if_there_are_some(
    finalists: tuple[Finalist, ...], said: bool
) -> None:
    caption = tuning_table(Comparison((), (), {}, (replace(SEARCH, finalists=finalists),))).caption

    assert ("retrained" in caption) is said
    assert "biased upwards" in caption


def test_without_searches_the_caption_states_it() -> None:
    table = tuning_table(Comparison((), (), {}))

    assert table.rows == []
    assert table.caption == "There are no finished searches."
    assert "There are no finished searches." in render(Comparison((), (), {}), "markdown", "tuning")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234567, "0.1235"), (1e-5, "1e-05"), (0.0, "0"), (3, "3"), (True, "True"), ("works", "works")],
)
def test_values_of_hyperparameters_are_short(value: Any, text: str) -> None:
    assert value_label(value) == text
