"""Verdicts, headlines and Methods state what the records support."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import evidence as made_up
import finals
import pytest
import reports
from finals import LOOKS, pair_of
from hypothesis import given
from hypothesis import strategies as st

from optstudy.comparison.pairs import Pair
from optstudy.comparison.table import Row
from optstudy.records.search import SearchResult
from optstudy.report.citation import bibtex
from optstudy.report.sentences import (
    headline,
    methods,
    study_setup,
    training_sentence,
    tuning_sentence,
    verdict_sentence,
)

PAIR: dict[str, Any] = {
    "a": "adam/best", "b": "sgd/paper", "difference": 0.00354, "low": 0.0001, "high": 0.00698, "p": 0.0041,
    "p_holm": 0.0123, "verdict": "better",
}  # fmt: skip
NAN = math.nan


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "Adam is better than SGD (paper) by 0.35 points of test accuracy (+0.01 to +0.70), p = 0.012.",
        ),
        (
            {"verdict": "worse", "difference": -0.00354, "low": -0.00698, "high": -0.0001},
            "SGD (paper) is better than Adam by 0.35 points of test accuracy (+0.01 to +0.70), p = 0.012.",
        ),
        (
            {"verdict": "equivalent", "difference": -0.0002, "low": -0.0006, "high": 0.0002, "p_holm": 0.4},
            "Adam and SGD (paper) are equivalent within 0.1 points: -0.02 points (-0.06 to +0.02).",
        ),
        (
            {"verdict": "no difference shown", "low": -0.001, "high": 0.00808, "p_holm": 1.0},
            "No difference between Adam and SGD (paper) is shown: +0.35 points (-0.10 to +0.81), p = 1.000.",
        ),
        (
            {"verdict": "too few seeds", "low": NAN, "high": NAN, "p": NAN, "p_holm": NAN, "seeds": 1},
            "Adam and SGD (paper) have one common seed, which supports no verdict.",
        ),
        (
            {"p_holm": 0.0000001},
            "Adam is better than SGD (paper) by 0.35 points of test accuracy (+0.01 to +0.70), p < 0.001.",
        ),
    ],
)
def test_a_verdict_has_its_numbers(changes: dict[str, Any], sentence: str) -> None:
    assert verdict_sentence(pair_of(**PAIR | changes), 0.001, LOOKS) == sentence


finite = st.floats(-1, 1)


@given(finite, finite, finite, st.floats(0, 1))
def test_worse_is_better_seen_from_the_other_side(gap: float, low: float, high: float, p: float) -> None:
    better = pair_of(**PAIR | {"difference": gap, "low": low, "high": high, "p_holm": p})
    turned = {"a": PAIR["b"], "b": PAIR["a"], "difference": -gap, "low": -high, "high": -low}
    worse = pair_of(**PAIR | turned | {"p_holm": p, "verdict": "worse"})

    assert verdict_sentence(better, 0.001, LOOKS) == verdict_sentence(worse, 0.001, LOOKS)


def rows(ranks: Sequence[str]) -> list[Row]:
    comparison = finals.comparison_of(*(finals.final_run(f"opt{index}") for index in range(len(ranks))))
    return [replace(row, rank=rank) for row, rank in zip(comparison.rows, ranks, strict=True)]


def judged(*verdicts: Any) -> list[Pair]:
    return [pair_of(**PAIR | {"verdict": verdict}) for verdict in verdicts]


OPEN = "no difference shown"


@pytest.mark.parametrize(
    ("ranks", "verdicts", "sentence"),
    [
        (["tie"], [], "There is one configuration, and nothing to compare."),
        (["2", "1"], ["worse"], "All pairs are decided, from the best: opt1, opt0."),
        (["2", "3", "1"], ["better"] * 3, "All pairs are decided, from the best: opt2, opt0, opt1."),
        (["tie", "tie"], [], "No pair is decided: these runs do not show which optimizer is better."),
        (
            ["tie", "tie"],
            ["equivalent"],
            "No pair is decided: these runs do not show which optimizer is better.",
        ),
        (
            ["tie", "tie", "3"],
            [OPEN, "better", "better"],
            "2 of 3 pairs are decided; a row with an undecided pair has no rank, and counts as tied.",
        ),
        (
            ["tie", "tie", "tie"],
            [OPEN, "better", "equivalent"],
            "1 of 3 pairs is decided; a row with an undecided pair has no rank, and counts as tied.",
        ),
        (  # each better than the next one, in a circle: decided, and no ranking
            ["2", "2", "2"],
            ["better", "worse", "better"],
            "3 of 3 pairs are decided; a row with an undecided pair has no rank, and counts as tied.",
        ),
    ],
)
def test_the_headline_ranks_only_where_every_rank_is_known(
    ranks: list[str], verdicts: list[str], sentence: str
) -> None:
    assert headline(rows(ranks), judged(*verdicts), LOOKS) == sentence


@given(
    st.lists(st.sampled_from(["tie", "1", "2", "3"]), min_size=2, max_size=4),
    st.lists(st.sampled_from(["better", "worse", "equivalent", OPEN]), max_size=6),
)
def test_no_headline_ranks_rows_if_one_is_tied(ranks: list[str], verdicts: list[str]) -> None:
    sentence = headline(rows(ranks), judged(*verdicts), LOOKS)

    assert ("from the best" in sentence) <= ("tie" not in ranks and len(set(ranks)) == len(ranks))


def search_with(trials: int = 20, finalists: int = 0, **settings: Any) -> SearchResult:
    made = reports.searched("sgd", reports.specification(finalists=max(1, finalists), **settings))
    return replace(made, trials=made.trials[:trials])


def test_one_of_everything_is_no_plural() -> None:
    tuned = tuning_sentence([search_with(1, tune_epochs=1, tune_size=1, validation=1)])
    trained = training_sentence(reports.made_up(("sgd",), 1, train_epochs=1).runs)

    assert tuned == (
        "Each optimizer was searched with 1 trial of 1 epoch (TPE, the median pruner), judged by the accuracy on 1"
        " training example held out for validation, and trained on 1 other."
    )
    assert trained.startswith(
        "Each configuration was trained for 1 epoch from 1 seed on all training examples of mnist (lenet5,"
    )


def test_the_searches_are_described_with_the_numbers_of_the_study() -> None:
    tuned = tuning_sentence([search_with(12, sampler="qmc"), search_with(20, sampler="qmc")])
    other = tuning_sentence([search_with(finalists=3, finalist_seeds=2, tune_size=5000, objective="loss")])
    once = tuning_sentence([search_with(finalists=3, finalist_seeds=1)])

    assert "with 12 to 20 trials of 3 epochs (a Sobol sequence, the median pruner)" in tuned
    assert "finalists" not in tuned
    assert "judged by the loss on 10,000 training examples held out for validation" in other
    assert "trained on 5,000 others" in other
    assert other.endswith(
        "The best 3 trials were retrained from 2 other seeds, and the one with the best mean of these was chosen."
    )
    assert once.endswith("from 1 other seed, and the one with the best score there was chosen.")


def test_training_is_not_described_without_a_plan() -> None:
    evidence = reports.nothing_kept()

    assert training_sentence(evidence.runs) == ""
    assert study_setup(evidence, "quick") == ["Compared: SGD, Adam."]


def test_methods_claim_no_more_than_was_done() -> None:
    single, plain = reports.alone(), reports.nothing_kept()
    paragraph = methods(made_up.comparison_of(reports.typical()), reports.typical(), "quick")
    alone = methods(made_up.comparison_of(single), single, "quick")

    assert paragraph.startswith(
        "We compared SGD [@sgd], AdaGrad [@adagrad], Adam [@adam] and AdaHessian [@adahessian]"
        " with optstudy 0.1.0 [@optstudy]."
    )
    for phrase in ("Optuna [@optuna]", "from 10 seeds", "over 6 pairs", "inside 0.1 points", "on 100 fixed"):
        assert phrase in paragraph
    assert alone.startswith("We trained SGD [@sgd] with optstudy 0.1.0")
    for wrong in ("Optuna", "Student", "Holm", "Bonferroni"):
        assert wrong not in alone
    assert "Hessian" not in methods(made_up.comparison_of(plain), plain, "quick")


def test_exactly_the_cited_keys_have_entries() -> None:
    evidence = reports.typical()
    text = methods(made_up.comparison_of(evidence), evidence, "quick")

    entries = re.findall(r"^@\w+\{([\w-]+),", bibtex(text), re.MULTILINE)

    assert entries == list(dict.fromkeys(re.findall(r"\[@([\w-]+)\]", text)))
    assert bibtex("by nobody [@unheard-of]") == ""
