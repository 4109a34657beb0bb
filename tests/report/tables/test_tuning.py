"""What a search tells beside its choice, by numbers that can be counted by hand."""

from collections.abc import Mapping
from typing import Any

import pytest

from optstudy.comparison.table import Comparison
from optstudy.records.search import SearchSummary, Step, summarise
from optstudy.report.tables.formats import render
from optstudy.report.tables.tuning import tuning_table, value_label


def trial(number: int, state: str, score: float | None, work: float) -> dict[str, Any]:
    return {
        "number": number,
        "state": state,
        "score": score,
        "gradient_work": work,
        "params": {"lr": 0.1 * number},
    }


def finalist(number: int, *scores: float | None) -> dict[str, Any]:
    return {"trial": number, "scores": list(scores), "gradient_work": 30.0}


def content(objective: str = "accuracy", **changes: Any) -> dict[str, Any]:
    trials = [
        trial(0, "diverged", None, 4.0),
        trial(1, "completed", 0.5, 10.0),
        trial(2, "pruned", 0.9, 5.0),
        trial(3, "completed", 0.75, 10.0),
        trial(4, "completed", 0.25, 10.0),
        trial(5, "failed", None, 0.0),
    ]
    searched: dict[str, Any] = {
        "optimizer": "sgd", "objective": objective, "trials": trials, "best": trials[3], "finalists": [],
    }  # fmt: skip
    return {"study": "quick", "searched": searched | changes}


def shown(*summaries: SearchSummary) -> list[list[str]]:
    return tuning_table(Comparison((), (), {}, summaries)).cells


def test_trials_and_work_are_counted_and_only_completed_trials_raise_the_best() -> None:
    found = summarise(content())

    assert found == SearchSummary(
        study="quick",
        optimizer="sgd",
        objective="accuracy",
        trials={"completed": 3, "diverged": 1, "failed": 1, "pruned": 1},
        gradient_work=39.0,
        chosen=3,
        config={"lr": pytest.approx(0.3)},
        score=0.75,
        finalists=0,
        score_again=None,
        curve=(
            Step(0, 4.0, None),
            Step(1, 14.0, 0.5),
            Step(2, 19.0, 0.5),
            Step(3, 29.0, 0.75),
            Step(4, 39.0, 0.75),
            Step(5, 39.0, 0.75),
        ),
    )


def test_a_loss_gets_better_as_it_falls() -> None:
    curve = summarise(content("loss")).curve

    assert [step.best for step in curve] == [None, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_a_search_without_a_completed_trial_chooses_nothing() -> None:
    found = summarise(
        content(trials=[trial(0, "failed", None, 0.0), trial(1, "pruned", 0.4, 3.0)], best=None)
    )

    assert (found.chosen, found.config, found.score, found.score_again) == (None, {}, None, None)
    assert [step.best for step in found.curve] == [None, None]
    assert shown(found) == [["SGD", "2", "1 failed, 1 pruned", "3", "--", "--", "--"]]


@pytest.mark.parametrize(
    ("scores", "mean"), [((0.5, 0.75), 0.625), ((0.5,), 0.5), ((0.5, None), None), ((None, None), None)]
)
def test_the_chosen_finalist_has_its_mean_unless_a_seed_was_lost(
    scores: tuple[float | None, ...], mean: float | None
) -> None:
    found = summarise(content(finalists=[finalist(1, 0.9, 0.9), finalist(3, *scores)]))

    assert found.finalists == 2
    assert found.score_again == mean
    assert found.gradient_work == 39.0 + 60.0


@pytest.mark.parametrize(
    ("objective", "score", "again"), [("accuracy", "75.00 %", "62.50 %"), ("loss", "0.7500", "0.6250")]
)
def test_the_table_shows_a_line_for_each_search(objective: str, score: str, again: str) -> None:
    found = summarise(content(objective, finalists=[finalist(3, 0.5, 0.75)]))

    assert shown(found) == [
        ["SGD", "6", "3 completed, 1 diverged, 1 failed, 1 pruned", "69", score, again, "lr 0.3"]
    ]


def test_the_study_is_named_where_there_are_several() -> None:
    other = summarise({**content(), "study": "later"})

    table = tuning_table(Comparison((), (), {}, (summarise(content()), other)))

    assert table.headers[0] == "Study"
    assert [row[0] for row in table.cells] == ["quick", "later"]
    assert {len(row) for row in table.cells} == {len(table.headers)}


@pytest.mark.parametrize(
    ("finalists", "said"), [([], False), ([finalist(3, 0.5)], True)]
)  # fmt: skip
def test_the_caption_speaks_of_finalists_only_where_there_are_some(
    finalists: list[Mapping[str, Any]], said: bool
) -> None:
    caption = tuning_table(Comparison((), (), {}, (summarise(content(finalists=finalists)),))).caption

    assert ("trained again" in caption) is said
    assert "flatters" in caption


def test_without_searches_the_table_says_so() -> None:
    table = tuning_table(Comparison((), (), {}))

    assert table.cells == []
    assert table.caption == "There are no finished searches."
    assert "There are no finished searches." in render(Comparison((), (), {}), "markdown", "tuning")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234567, "0.1235"), (1e-5, "1e-05"), (0.0, "0"), (3, "3"), (True, "True"), ("calm", "calm")],
)
def test_values_of_hyperparameters_are_short(value: Any, text: str) -> None:
    assert value_label(value) == text
