"""The comparison: its rows, their order and their numbers."""

import json

import numpy as np
import pytest
from finals import LOOKS, answers, comparison_of, final_run, runs_of, seeds
from scipy import stats

from optstudy.comparison.table import compare
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.naming import PAPER


def test_paper_values_are_those_of_table_one() -> None:
    assert PAPER == {
        "sgd": (0.9989, 0.9893),
        "adagrad": (0.9999, 0.9837),
        "adam": (0.9996, 0.9895),
        "adahessian": (0.9999, 0.9910),
    }


def test_accuracy_is_the_mean_over_seeds_with_scipys_t_interval() -> None:
    accuracies = [0.9893, 0.9901, 0.9884]

    (row,) = comparison_of(*seeds(accuracies)).rows

    low, high = stats.t.interval(0.95, 2, loc=np.mean(accuracies), scale=stats.sem(accuracies))
    assert row.seeds == 3
    assert row.test_accuracy.mean == pytest.approx(np.mean(accuracies), rel=1e-12)
    assert (row.test_accuracy.low, row.test_accuracy.high) == pytest.approx((low, high), rel=1e-12)


def test_work_and_seconds_are_means_over_seeds() -> None:
    (row,) = comparison_of(
        final_run(seed=0, seconds=10.0, work=6000.0), final_run(seed=1, seconds=20.0, work=8000.0)
    ).rows

    assert (row.seconds, row.gradient_work) == (15.0, 7000.0)


def test_configurations_are_never_averaged_together() -> None:
    runs = [final_run(config="best", test=0.99), final_run(config="paper", test=0.97)]

    rows = comparison_of(*runs).rows

    assert [(row.config, row.seeds, row.test_accuracy.mean) for row in rows] == [
        ("best", 1, 0.99),
        ("paper", 1, 0.97),
    ]


def test_rows_follow_study_then_the_papers_order_then_best_paper_default() -> None:
    expected = [
        ("main", "sgd", "best"),
        ("quick", "sgd", "best"),
        ("quick", "sgd", "paper"),
        ("quick", "sgd", "default"),
        ("quick", "sgd", "small-batch"),
        ("quick", "adagrad", "best"),
        ("quick", "adam", "best"),
        ("quick", "adahessian", "best"),
        ("quick", "adamw", "best"),
        ("quick", "lion", "best"),
    ]
    shuffled = [expected[i] for i in np.random.default_rng(0).permutation(len(expected))]

    rows = comparison_of(*(final_run(o, c, study=s) for s, o, c in shuffled)).rows

    assert [(row.study, row.optimizer, row.config) for row in rows] == expected


def test_studies_stand_in_the_order_in_which_they_were_asked_for() -> None:
    runs = tuple(RunEvidence(final_run(study=name)) for name in ("a", "b", "c"))

    assert [row.study for row in compare(Evidence(runs, studies=("c", "a"))).rows] == ["c", "a", "b"]


def test_order_of_the_runs_does_not_matter() -> None:
    runs = seeds([0.9893, 0.9901, 0.9884]) + seeds([0.98, 0.985], "adam", "paper")

    assert comparison_of(*reversed(runs)) == comparison_of(*runs)


def test_paper_values_need_the_papers_model_and_data() -> None:
    ours, other = (
        comparison_of(final_run("adahessian", paper_setting=setting)).rows[0] for setting in (True, False)
    )

    assert ours.paper == (0.9999, 0.9910)
    assert other.paper is None


def test_optimizer_that_the_paper_lacks_has_no_paper_value() -> None:
    (row,) = comparison_of(final_run("adamw")).rows

    assert row.paper is None


def test_diverged_run_counts() -> None:
    runs = [final_run(seed=0, test=0.99), final_run(seed=1, test=0.1, outcome="diverged")]

    (row,) = comparison_of(*runs).rows

    assert (row.seeds, row.diverged) == (2, 1)
    assert row.test_accuracy.mean == pytest.approx(0.545)


def test_json_has_fractions_and_null_for_unknown_values() -> None:
    comparison = comparison_of(final_run("adamw", test=0.9874, train=0.9969), unfinished=2)

    document = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))

    unknown = {"low": None, "high": None, "paper": None}
    assert document == {
        "rows": [
            {
                "study": "quick",
                "optimizer": "adamw",
                "config": "best",
                "seeds": 1,
                "train_accuracy": {"mean": 0.9969, **unknown},
                "test_accuracy": {"mean": 0.9874, **unknown},
                "diverged": 0,
                "seconds": 10.0,
                "step_seconds": None,
                "gradient_work": 6000.0,
                "rank": "tie",
                "images": None,
                "to_target": None,
                "geometry": None,
                "missing_curvature": {},
                "missing_trace": {},
            }
        ],
        "pairs": [],
        "excluded": {"unfinished": 2},
        "damaged": [],
        "searches": [],
        "sources": [],
    }


def test_data_frame_holds_the_same_numbers() -> None:
    comparison = comparison_of(*seeds([0.98, 0.99]), final_run("adamw"))

    frame = comparison.to_pandas()

    assert list(frame["optimizer"]) == ["sgd", "adamw"]
    assert list(frame["seeds"]) == [2, 1]
    for index, part in enumerate(("train_accuracy", "test_accuracy")):
        accuracies = [getattr(row, part) for row in comparison.rows]
        assert list(frame[part]) == [accuracy.mean for accuracy in accuracies]
        expected = {end: [getattr(accuracy, end) for accuracy in accuracies] for end in ("low", "high")}
        expected["paper"] = [row.paper and row.paper[index] for row in comparison.rows]
        for end, values in expected.items():
            assert frame[f"{part}_{end}"].dtype == np.float64
            np.testing.assert_array_equal(frame[f"{part}_{end}"], np.array(values, dtype=float))


def test_names_are_written_as_in_papers_where_known() -> None:
    assert [LOOKS[name].label for name in ("sgd", "adahessian", "lion")] == ["SGD", "AdaHessian", "lion"]


def test_fewer_optimizers_keep_the_verdicts_among_all() -> None:
    runs = runs_of(["sgd", "adagrad", "adam", "adahessian"])
    comparison = comparison_of(*runs, correct=answers(runs))

    selected = comparison.of_optimizers(["sgd", "adam"])

    assert [row.optimizer for row in selected.rows] == ["sgd", "adam"]
    assert selected.pairs == tuple(
        pair for pair in comparison.pairs if (str(pair.a), str(pair.b)) == ("sgd/best", "adam/best")
    )
    assert selected.pairs[0].family == 6
    assert [row.rank for row in selected.rows] == [
        row.rank for row in comparison.rows if row.optimizer in ("sgd", "adam")
    ]
