"""The comparison and its text."""

import csv
import io
import json
import re

import numpy as np
import pytest
from scipy import stats

from optstudy.errors import UsageError
from optstudy.table import PAPER, Comparison, compare, label_of
from optstudy.tabletext import caption, columns, render
from optstudy.tracking import FinalRun, FinalRuns


def final_run(
    optimizer: str = "sgd",
    config: str = "best",
    seed: int = 0,
    test: float = 0.989,
    *,
    train: float = 0.995,
    study: str = "quick",
    outcome: str = "completed",
    paper_setting: bool = True,
    seconds: float = 10.0,
    work: float = 6000.0,
) -> FinalRun:
    run_id = f"{study}-{optimizer}-{config}-{seed}"
    return FinalRun(
        run_id, study, optimizer, config, seed, outcome, train, test, paper_setting, seconds, work, 0.001, {}
    )


def comparison_of(*runs: FinalRun, **excluded: int) -> Comparison:
    return compare(FinalRuns(runs, excluded))


def seeds(accuracies: list[float], optimizer: str = "sgd", config: str = "best") -> list[FinalRun]:
    return [final_run(optimizer, config, seed, test) for seed, test in enumerate(accuracies)]


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
    runs = tuple(final_run(study=name) for name in ("a", "b", "c"))

    assert [row.study for row in compare(FinalRuns(runs, {}), ("c", "a")).rows] == ["c", "a", "b"]


def test_order_of_the_runs_does_not_matter() -> None:
    runs = seeds([0.9893, 0.9901, 0.9884]) + seeds([0.98, 0.985], "adam", "paper")

    assert comparison_of(*reversed(runs)) == comparison_of(*runs)


def test_paper_values_stand_only_beside_the_papers_model_and_data() -> None:
    ours, other = (
        comparison_of(final_run("adahessian", paper_setting=setting)).rows[0] for setting in (True, False)
    )

    assert (ours.train_accuracy.paper, ours.test_accuracy.paper) == (0.9999, 0.9910)
    assert (other.train_accuracy.paper, other.test_accuracy.paper) == (None, None)


def test_optimizer_that_the_paper_lacks_has_no_paper_value() -> None:
    (row,) = comparison_of(final_run("adamw")).rows

    assert row.test_accuracy.paper is None


def test_diverged_run_counts_and_is_named() -> None:
    runs = [final_run(seed=0, test=0.99), final_run(seed=1, test=0.1, outcome="diverged")]
    comparison = comparison_of(*runs)

    (row,) = comparison.rows
    assert (row.seeds, row.diverged) == (2, 1)
    assert row.test_accuracy.mean == pytest.approx(0.545)
    assert "2 (1 diverged)" in columns(comparison)[1][0]
    assert "Diverged runs (1) count" in caption(comparison)


def test_json_has_fractions_and_null_where_nothing_is_known() -> None:
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
                "gradient_work": 6000.0,
                "rank": "tie",
            }
        ],
        "pairs": [],
        "excluded": {"unfinished": 2},
    }


def test_data_frame_holds_the_same_numbers() -> None:
    comparison = comparison_of(*seeds([0.98, 0.99]), final_run("adamw"))

    frame = comparison.to_pandas()

    assert list(frame["optimizer"]) == ["sgd", "adamw"]
    assert list(frame["seeds"]) == [2, 1]
    for part in ("train_accuracy", "test_accuracy"):
        expected = [getattr(row, part) for row in comparison.rows]
        assert list(frame[part]) == [accuracy.mean for accuracy in expected]
        for end in ("low", "high", "paper"):
            known = [getattr(accuracy, end) for accuracy in expected]
            assert frame[f"{part}_{end}"].dtype == np.float64
            np.testing.assert_array_equal(frame[f"{part}_{end}"], np.array(known, dtype=float))


def test_cells_show_per_cent_spread_and_the_papers_values() -> None:
    headers, rows = columns(comparison_of(*seeds([0.98, 0.99]), final_run("adamw", test=0.9)))

    half_width = 12.706 * 0.5  # of 98 and 99 per cent: the tabulated t of one degree of freedom
    assert headers == [
        *("Optimizer", "Config", "Seeds"),
        *("Train (%)", "Train, paper (%)", "Test (%)", "Test, paper (%)"),
    ]
    assert rows == [
        ["SGD", "best", "2", "99.50 ± 0.00", "99.89", f"98.50 ± {half_width:.2f}", "98.93"],
        ["AdamW", "best", "1", "99.50", "--", "90.00", "--"],
    ]


def test_paper_columns_go_where_no_row_has_a_paper_value() -> None:
    headers, rows = columns(comparison_of(final_run(paper_setting=False)))

    assert headers == ["Optimizer", "Config", "Seeds", "Train (%)", "Test (%)"]
    assert rows == [["SGD", "best", "1", "99.50", "98.90"]]


def test_study_column_appears_with_a_second_study() -> None:
    headers, rows = columns(comparison_of(final_run(study="a"), final_run(study="b")))

    assert headers[0] == "Study"
    assert [row[0] for row in rows] == ["a", "b"]


def test_markdown_table_holds_exactly_the_cells() -> None:
    comparison = comparison_of(*seeds([0.98, 0.99]), final_run("adam", test=0.9))
    headers, rows = columns(comparison)

    lines = render(comparison, "markdown").splitlines()

    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [cells[0], *cells[2:]] == [headers, *rows]
    assert lines[-1] == caption(comparison)


def test_latex_table_has_booktabs_rules_and_escaped_cells() -> None:
    comparison = comparison_of(final_run("my_opt", "50%", seed=0), final_run("my_opt", "50%", seed=1))

    text = render(comparison, "latex")

    rules = [r"\begin{table}", r"\begin{tabular}{llrrr}", r"\toprule", r"\midrule", r"\bottomrule"]
    ends = [r"\end{tabular}", r"\end{table}"]
    positions = [text.index(part) for part in rules + ends]
    assert positions == sorted(positions)
    assert r"my\_opt & 50\% & 2 & 99.50 $\pm$ 0.00 & 98.90 $\pm$ 0.00 \\" in text
    assert not re.search(r"(?<!\\)[%_#]", text)
    assert text.isascii()


def test_csv_holds_plain_fractions() -> None:
    comparison = comparison_of(*seeds([0.98, 0.99]), final_run("adamw", test=0.9))

    sgd, adamw = csv.DictReader(io.StringIO(render(comparison, "csv")))

    assert float(sgd["test_accuracy"]) == 0.985
    assert float(sgd["test_accuracy_high"]) == comparison.rows[0].test_accuracy.high
    assert float(sgd["test_accuracy_paper"]) == 0.9893
    assert (adamw["optimizer"], adamw["test_accuracy_low"], adamw["test_accuracy_paper"]) == ("adamw", "", "")


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_every_format_ends_with_a_newline_and_has_no_nan(form: str) -> None:
    for comparison in (comparison_of(), comparison_of(final_run("adamw"))):
        text = render(comparison, form)  # type: ignore[arg-type] # parametrized strings are no literals
        assert text.endswith("\n")
        assert "nan" not in text.lower()


def test_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'html'; give markdown, latex or csv"):
        render(comparison_of(), "html")  # type: ignore[arg-type] # the point of the test


def test_caption_says_what_the_spread_is_and_how_many_runs_were_left_out() -> None:
    text = caption(comparison_of(*seeds([0.98, 0.99]), unfinished=2, failed=1, superseded=0))

    assert "95 % Student t interval over seeds" in text
    assert "sampling error of the test images" in text
    assert "Runs left out: 2 unfinished, 1 failed." in text
    assert "One seed" not in text


def test_caption_claims_no_interval_for_single_seeds() -> None:
    assert caption(comparison_of(final_run())) == "One seed shows no spread."


def test_caption_of_an_empty_comparison_says_so() -> None:
    assert caption(comparison_of(failed=3)) == "There are no finished final runs. Runs left out: 3 failed."


def test_names_are_written_as_in_papers_where_known() -> None:
    assert [label_of(name) for name in ("sgd", "adahessian", "lion")] == ["SGD", "AdaHessian", "lion"]
