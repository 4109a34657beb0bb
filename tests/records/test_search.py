"""Summaries of a search, and the selection of its best trial, against numbers counted by hand."""

import json
from dataclasses import replace
from typing import Any

import evidence
import pytest
from evidence import TRIALS, trial

from optstudy.records.search import WORST, Finalist, SearchResult, read_search, running_best, select_best


def finalist(number: int, *scores: float | None) -> Finalist:
    return Finalist(number, tuple(2000 + place for place in range(len(scores))), scores, 30.0)


def search(objective: Any = "accuracy", *finalists: Finalist) -> SearchResult:
    best = select_best(TRIALS, objective, finalists)
    return SearchResult("quick", evidence.space("sgd"), objective, TRIALS, best, finalists)


def test_trials_and_work_are_counted_and_only_completed_trials_raise_the_best() -> None:
    assert search().summary() == {
        "study": "quick",
        "optimizer": "sgd",
        "objective": "accuracy",
        "trials": {"completed": 3, "diverged": 1, "failed": 1, "pruned": 1},
        "failures": {},
        "distinct": 6,
        "gradient_work": 39.0,
        "chosen": 3,
        "config": {"lr": pytest.approx(0.3)},
        "score": 0.75,
        "finalists": 0,
        "score_again": None,
        "curve": [
            {"trial": 0, "gradient_work": 4.0, "best": None},
            {"trial": 1, "gradient_work": 14.0, "best": 0.5},
            {"trial": 2, "gradient_work": 19.0, "best": 0.5},
            {"trial": 3, "gradient_work": 29.0, "best": 0.75},
            {"trial": 4, "gradient_work": 39.0, "best": 0.75},
            {"trial": 5, "gradient_work": 39.0, "best": 0.75},
        ],
    }


def test_a_loss_gets_better_as_it_falls() -> None:
    assert running_best(TRIALS, "loss") == [None, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_a_search_without_a_completed_trial_has_no_best() -> None:
    trials = (trial(0, "failed", None, 0.0), trial(1, "pruned", 0.4, 3.0))
    summary = replace(search(), trials=trials, best=select_best(trials, "accuracy")).summary()

    assert (summary["chosen"], summary["config"], summary["score"], summary["score_again"]) == (
        None,
        {},
        None,
        None,
    )
    assert [point["best"] for point in summary["curve"]] == [None, None]


@pytest.mark.parametrize(
    ("objective", "scores", "mean"),
    [
        ("accuracy", (0.5, 0.75), 0.625),
        ("accuracy", (0.5,), 0.5),
        ("accuracy", (0.5, None), 0.25),
        ("accuracy", (None, None), 0.0),
        ("loss", (0.5, None), (0.5 + WORST["loss"]) / 2),
        ("loss", (0.5, 1e30), (0.5 + WORST["loss"]) / 2),
    ],
)
def test_a_seed_whose_score_is_not_finite_counts_as_the_worst_in_the_mean_and_in_the_choice(
    objective: Any, scores: tuple[float | None, ...], mean: float
) -> None:
    worst = {"accuracy": (0.0, None), "loss": (200.0, None)}[objective]
    result = search(objective, finalist(1, *worst), finalist(3, *scores))

    assert result.best == TRIALS[3 if result.finalists[1].mean(objective) != WORST[objective] else 1]
    chosen = replace(result, best=TRIALS[3])
    assert chosen.best_mean == chosen.summary()["score_again"] == mean
    assert chosen.summary()["finalists"] == 2
    assert chosen.gradient_work == 39.0 + 60.0


def test_failures_are_counted_by_reason_and_kept_in_the_file() -> None:
    failed = [replace(trial(number, "failed", None, 0.0), problem="ValueError: lr") for number in (6, 7)]
    found = replace(search(), trials=(*TRIALS, *failed), sources={"loss.py": {"1a2b": 8}})

    assert found.failures == found.summary()["failures"] == {"ValueError: lr": 2}
    assert read_search(json.loads(json.dumps(found.to_form())), "search.json") == found
    assert "problem" not in search().to_form()["searched"]["trials"][0]
    assert "sources" not in search().to_form()
