"""The pairs of a comparison, the ranks that they allow, and what a study could have shown."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from finals import SKILL, answers, comparison_of, final_run, pair_of, runs_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from optstudy.comparison.pairs import Pair, pair_rows, row_rank, seeds_to_detect, smallest_difference
from optstudy.comparison.table import Comparison
from optstudy.records.naming import RowKey
from optstudy.records.run import FinalRun
from optstudy.statistics import Verdict, compare_pairs

OPPOSITE = {"better": "worse", "worse": "better"}


def names(pairs: Sequence[Pair]) -> list[tuple[str, str, str]]:
    return [(pair.study, str(pair.a), str(pair.b)) for pair in pairs]


def test_pairs_are_all_combinations_of_a_studys_rows_in_the_order_given() -> None:
    rows = [("lion", "best"), ("sgd", "paper"), ("sgd", "best"), ("adam", "best")]
    runs = [final_run(*row, seed) for row in rows for seed in range(3)]

    pairs = pair_rows(runs, answers(runs))

    combinations = itertools.combinations(["lion/best", "sgd/paper", "sgd/best", "adam/best"], 2)
    assert names(pairs) == [("quick", a, b) for a, b in combinations]


def test_a_difference_is_the_mean_accuracy_of_a_minus_that_of_b() -> None:
    runs = runs_of(["adam", "sgd"], 3)
    correct = answers(runs)

    (pair,) = pair_rows(runs, correct)

    adam, sgd = (
        np.mean([correct[run.run_id] for run in runs if run.optimizer == o]) for o in ("adam", "sgd")
    )
    assert (pair.test.difference.seeds, pair.test.difference.images) == (3, 1000)
    assert pair.test.difference.mean == pytest.approx(adam - sgd)
    assert pair.test.low < pair.test.difference.mean < pair.test.high
    assert pair.test.verdict == "better"


def test_only_the_seeds_that_both_have_count() -> None:
    adam = [final_run("adam", seed=seed) for seed in (0, 1, 2, 5)]
    sgd = [final_run("sgd", seed=seed) for seed in (7, 5, 2, 1)]
    correct = answers([*adam, *sgd])

    (pair,) = pair_rows([*adam, *sgd], correct)

    assert pair.test.difference.seeds == 3
    assert (pair,) == pair_rows([*adam[1:], *sgd[1:]], correct)


def test_rows_without_a_common_seed_make_no_pair() -> None:
    adam, sgd = final_run("adam", seed=0), final_run("sgd", seed=1)
    lion = [final_run("lion", seed=seed) for seed in (0, 1)]
    runs = [adam, sgd, *lion]

    assert pair_rows([adam, sgd], answers(runs)) == ()
    assert names(pair_rows(runs, answers(runs))) == [
        ("quick", "adam/best", "lion/best"),
        ("quick", "sgd/best", "lion/best"),
    ]


def test_one_seed_is_too_few_and_its_unknown_numbers_are_null_in_json() -> None:
    runs = runs_of(["adam", "sgd"], 1)

    (pair,) = pair_rows(runs, answers(runs))

    unknown = ("low", "high", "p", "p_holm", "smallest", "seed_variance", "image_variance")
    test, [network] = pair.test, pair.networks.values()
    known = (
        test.low,
        test.high,
        test.p,
        test.p_holm,
        test.smallest_detectable,
        test.difference.seed_variance,
        test.difference.image_variance,
    )
    assert all(map(math.isnan, known))
    assert json.loads(json.dumps(pair.to_dict(), allow_nan=False)) == {
        "study": "quick",
        "a": "adam/best",
        "b": "sgd/best",
        "seeds": 1,
        "images": 1000,
        "difference": pair.test.difference.mean,
        "family": 0,
        "verdict": "too few seeds",
        "networks": [
            {"seed": 0, "a_alone": network.first_only, "b_alone": network.second_only, "p": network.p}
        ],
        **dict.fromkeys(unknown),
    }


def test_json_has_every_number_that_is_known() -> None:
    runs = runs_of(["adam", "sgd"])
    (pair,) = pair_rows(runs, answers(runs))

    written = json.loads(json.dumps(pair.to_dict(), allow_nan=False))

    assert pair_of(**written) == pair


def test_two_studies_are_two_families() -> None:
    one, other = runs_of(SKILL, study="one"), runs_of(["sgd", "rmsprop"], 3, study="other")
    mixed = [run for both in itertools.zip_longest(one, other) for run in both if run is not None]
    correct = answers(mixed)

    pairs = pair_rows(mixed, correct)

    assert pairs == pair_rows(one, correct) + pair_rows(other, correct)
    assert {pair.study for pair in pairs} == {"one", "other"}
    for study, count in (("one", 3), ("other", 1)):
        own = [pair for pair in pairs if pair.study == study]
        assert len(own) == count
        assert [pair.test.p_holm for pair in own] == pytest.approx(
            multipletests([pair.test.p for pair in own], method="holm")[1]
        )


def test_runs_without_predictions_are_left_out() -> None:
    runs = runs_of(["adam", "sgd", "lion"], 3)
    lost = {runs[0].run_id, *(run.run_id for run in runs if run.optimizer == "lion")}
    correct = {run_id: right for run_id, right in answers(runs).items() if run_id not in lost}

    (pair,) = pair_rows(runs, correct)

    assert (str(pair.a), str(pair.b), pair.test.difference.seeds) == ("adam/best", "sgd/best", 2)
    assert pair_rows(runs, {}) == ()


MANY = [*runs_of(SKILL, 3), *runs_of(["rmsprop"], 2), *runs_of(["adam", "sgd"], 3, study="other")]


@pytest.fixture(scope="module")
def of_many() -> Comparison:
    return comparison_of(*MANY, correct=answers(MANY))


def turned(pair: Pair) -> tuple[str, str, str, str, float, float]:
    """Return a pair as its alphabetical order has it."""
    test, a, b = pair.test, str(pair.a), str(pair.b)
    if a < b:
        return pair.study, a, b, test.verdict, test.difference.mean, test.p_holm
    verdict = OPPOSITE.get(test.verdict, test.verdict)
    return pair.study, b, a, verdict, -test.difference.mean, test.p_holm


@settings(max_examples=20)
@given(shuffled=st.permutations(MANY))
def test_the_order_of_runs_does_not_change_the_verdicts(
    of_many: Comparison, shuffled: list[FinalRun]
) -> None:
    actual, expected = (
        sorted(map(turned, pairs)) for pairs in (pair_rows(shuffled, answers(MANY)), of_many.pairs)
    )

    for one, other in zip(actual, expected, strict=True):
        assert one[:4] == other[:4]
        assert one[4:] == pytest.approx(other[4:])


@settings(max_examples=8)
@given(shuffled=st.permutations(MANY))
def test_a_comparison_is_the_same_whatever_the_order_of_runs(
    of_many: Comparison, shuffled: list[FinalRun]
) -> None:
    assert comparison_of(*shuffled, correct=answers(MANY)) == of_many


def test_diverged_runs_count() -> None:
    runs = runs_of(["adam", "sgd"], 3)
    diverged = [replace(run, outcome="diverged") if run.optimizer == "sgd" else run for run in runs]

    assert pair_rows(diverged, answers(runs)) == pair_rows(runs, answers(runs))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_single_optimizer_has_no_pairs(count: int) -> None:
    runs = runs_of(["sgd"], count)

    assert pair_rows(runs, answers(runs)) == ()


def test_the_same_predictions_are_equivalent() -> None:
    runs = runs_of(["adam", "sgd"], 2)
    right = answers(runs[:2])

    (pair,) = pair_rows(runs, right | {run.run_id: right[runs[run.seed].run_id] for run in runs})

    test = pair.test
    assert (test.verdict, test.difference.mean, test.p, test.low, test.high) == (
        "equivalent",
        0.0,
        1.0,
        0.0,
        0.0,
    )


def test_each_study_uses_its_own_margin() -> None:
    runs = [
        final_run(optimizer, seed=seed, study=study, margin=margin)
        for study, margin in (("strict", 0.001), ("lax", 0.5))
        for optimizer in ("adagrad", "rmsprop")
        for seed in range(3)
    ]

    verdicts = {pair.study: pair.test.verdict for pair in pair_rows(runs, answers(runs))}

    assert verdicts == {"strict": "no difference shown", "lax": "equivalent"}


def judged(a: str, b: str, verdict: Verdict, study: str = "quick") -> Pair:
    return pair_of(f"{a}/best", f"{b}/best", study, verdict=verdict)


def row_ranks(pairs: Sequence[Pair], rows: str = "abc") -> list[str]:
    return [row_rank(RowKey("quick", row, "best"), pairs, other_rows=len(rows) - 1) for row in rows]


OPEN: list[Verdict] = ["equivalent", "no difference shown", "too few seeds"]


@given(
    st.permutations("abcde"), st.sets(st.sampled_from(list(itertools.combinations("abcde", 2)))), st.data()
)
def test_a_row_whose_pairs_are_all_decided_is_ranked_after_the_rows_that_are_better(
    order: list[str], undecided: set[tuple[str, str]], data: st.DataObject
) -> None:
    """``order`` begins with the best."""
    pairs = []
    for a, b in itertools.combinations("abcde", 2):
        verdict: Verdict = "better" if order.index(a) < order.index(b) else "worse"
        if (a, b) in undecided:
            verdict = data.draw(st.sampled_from(OPEN))
        pairs.append(judged(a, b, verdict))

    ranks = row_ranks(pairs, "abcde")

    for row, rank in zip("abcde", ranks, strict=True):
        tied = any(row in pair for pair in undecided)
        assert rank == ("tie" if tied else str(1 + order.index(row)))


def test_a_row_that_was_not_compared_with_all_others_has_no_rank() -> None:
    assert row_ranks([judged("a", "b", "better"), judged("b", "c", "better")]) == ["tie", "2", "tie"]
    assert row_ranks([judged("a", "b", "better")]) == ["tie", "tie", "tie"]
    assert row_ranks([]) == ["tie", "tie", "tie"]


def test_pairs_of_another_study_give_no_rank() -> None:
    own, others = judged("a", "b", "better"), judged("a", "b", "worse", study="other")

    assert row_ranks([others, own], "ab") == ["1", "2"]
    assert row_ranks([others], "ab") == ["tie", "tie"]


def test_the_table_ranks_what_is_decided() -> None:
    runs = [*runs_of(SKILL), *runs_of(SKILL, 1, study="short")]

    ranks = {(row.study, row.optimizer): row.rank for row in comparison_of(*runs, correct=answers(runs)).rows}

    assert ranks == {
        ("quick", "lion"): "1",
        ("quick", "adam"): "2",
        ("quick", "sgd"): "3",
        **{("short", name): "tie" for name in SKILL},
    }


def without_predictions(runs: list[FinalRun]) -> list[FinalRun]:
    return [run for run in runs if run.optimizer != "sgd"]


def without_a_common_seed(runs: list[FinalRun]) -> list[FinalRun]:
    return [run for run in runs if (run.optimizer == "sgd") == (run.seed == 4)]


@pytest.mark.parametrize("select", [without_predictions, without_a_common_seed])
def test_no_row_is_ranked_if_one_cannot_be_compared(
    select: Callable[[list[FinalRun]], list[FinalRun]],
) -> None:
    runs = runs_of(SKILL)

    comparison = comparison_of(*runs, correct=answers(select(runs)))

    assert [(str(pair.a), str(pair.b), pair.test.verdict) for pair in comparison.pairs] == [
        ("adam/best", "lion/best", "worse")
    ]
    assert [row.rank for row in comparison.rows] == ["tie", "tie", "tie"]


def test_without_a_verdict_there_is_no_detectable_difference() -> None:
    runs = runs_of(["adam", "sgd"], 1)

    assert smallest_difference(pair_rows(runs, answers(runs))) is None
    assert smallest_difference([]) is None


def smallest_at(pairs: Sequence[Pair], seeds: int) -> float:
    """Return the largest of the smallest differences that would have been shown with so many seeds."""
    differences = {(pair.a, pair.b): replace(pair.test.difference, seeds=seeds) for pair in pairs}
    return max(test.smallest_detectable for test in compare_pairs(differences, 0.001).values())


def test_all_pairs_detect_the_smallest_difference_and_half_of_it_with_the_fewest_seeds() -> None:
    runs = runs_of(["adagrad", "rmsprop", "nadam"])  # equally good, so that images add little
    pairs = pair_rows(runs, answers(runs))

    smallest = smallest_difference(pairs)

    assert smallest == max(pair.test.smallest_detectable for pair in pairs)
    enough = seeds_to_detect(pairs, smallest / 2)
    assert enough is not None
    assert smallest_at(pairs, enough) <= smallest / 2 < smallest_at(pairs, enough - 1)


def test_a_pair_without_a_verdict_does_not_count_in_the_reach() -> None:
    runs = runs_of(["adagrad", "rmsprop"], 3)
    single = final_run("adam")
    correct = answers([*runs, single])
    pairs, fewer = pair_rows([*runs, single], correct), pair_rows(runs, correct)

    assert smallest_difference(pairs) == smallest_difference(fewer)
    assert seeds_to_detect(pairs, 0.01) == seeds_to_detect(fewer, 0.01)


def test_no_number_of_seeds_is_named_where_the_test_images_are_too_few() -> None:
    runs = runs_of(SKILL, 20)  # so many that the images are what is uncertain: the better are so on hard ones
    pairs = pair_rows(runs, answers(runs, images=100))

    smallest = smallest_difference(pairs)

    assert smallest is not None
    assert smallest > 0
    assert seeds_to_detect(pairs, smallest / 2) is None


def test_each_common_seed_has_mcnemars_test_of_its_two_networks() -> None:
    runs = runs_of(("sgd", "adam"), count=3)
    correct = answers(runs)

    [pair] = pair_rows(runs, correct)

    assert list(pair.networks) == [0, 1, 2]
    for seed, discordance in pair.networks.items():
        a, b = correct[f"quick-sgd-best-{seed}"], correct[f"quick-adam-best-{seed}"]
        assert (discordance.first_only, discordance.second_only) == (int((a & ~b).sum()), int((b & ~a).sum()))
        either = discordance.first_only + discordance.second_only
        assert discordance.p == pytest.approx(stats.binomtest(discordance.first_only, either).pvalue)
    assert json.loads(json.dumps(pair.to_dict(), allow_nan=False))["networks"][0]["seed"] == 0
