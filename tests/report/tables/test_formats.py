"""The comparison as text: what stands in its cells and under its tables, in every format."""

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from components import compile_latex
from evidence import search_result
from finals import LOOKS, SKILL, answers, comparison_of, final_run, pair_of, runs_of, seeds

from optstudy.comparison.pairs import seeds_to_detect
from optstudy.comparison.table import Comparison, compare
from optstudy.errors import UsageError
from optstudy.records.curvature import FinalCurvature
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.run import CostToTarget, Predictions
from optstudy.report.tables.accuracy import accuracy_caption, accuracy_table
from optstudy.report.tables.classes import classes_table
from optstudy.report.tables.formats import build_tables, render
from optstudy.report.tables.pairs import pair_caption, pair_table
from optstudy.report.tables.table import Table

KNOWN: dict[str, Any] = {
    "a": "adam/best",
    "b": "sgd/paper",
    "difference": 0.00354,
    "low": -0.0001,
    "high": 0.00718,
    "p": 0.0041,
    "p_holm": 0.0123,
    "smallest": 0.004,
    "seed_variance": 1e-6,
    "image_variance": 1e-9,
}
UNKNOWN = ("low", "high", "p", "p_holm", "smallest", "seed_variance", "image_variance")
SINGLE = KNOWN | dict.fromkeys(UNKNOWN, math.nan) | {"seeds": 1, "verdict": "too few seeds"}


def pairs_alone(*pairs: Mapping[str, Any]) -> Comparison:
    return Comparison((), tuple(pair_of(**pair) for pair in pairs), {}, looks=LOOKS)


def whole(optimizers: list[str], count: int, study: str = "quick") -> Comparison:
    """A comparison with pairs."""
    runs = runs_of(optimizers, count, study)
    return comparison_of(*runs, correct=answers(runs))


def test_cells_show_per_cent_spread_and_the_papers_values() -> None:
    table = accuracy_table(comparison_of(*seeds([0.98, 0.99]), final_run("adamw", test=0.9)))

    half_width = 12.706 * 0.5  # of 98 and 99 per cent: the tabulated t of one degree of freedom
    assert table.headers == [
        *("Optimizer", "Config", "Seeds"),
        *("Train (%)", "Paper's", "Diff."),
        *("Test (%)", "Paper's", "Diff."),
    ]
    assert table.rows == [
        ["SGD", "best", "2", "99.50 ± 0.00", "99.89", "-0.39", f"98.50 ± {half_width:.2f}", "98.93", "-0.43"],
        ["AdamW", "best", "1", "99.50", "--", "--", "90.00", "--", "--"],
    ]


def test_paper_columns_go_where_no_row_has_a_paper_value() -> None:
    table = accuracy_table(comparison_of(final_run(paper_setting=False)))

    assert table.headers == ["Optimizer", "Config", "Seeds", "Train (%)", "Test (%)"]
    assert table.rows == [["SGD", "best", "1", "99.50", "98.90"]]


def test_study_column_appears_with_a_second_study() -> None:
    table = accuracy_table(comparison_of(final_run(study="a"), final_run(study="b")))

    assert table.headers[0] == "Study"
    assert [row[0] for row in table.rows] == ["a", "b"]


def test_a_diverged_run_is_named() -> None:
    comparison = comparison_of(final_run(seed=0), final_run(seed=1, test=0.1, outcome="diverged"))

    assert "2 (1 diverged)" in accuracy_table(comparison).rows[0]
    assert "Diverged runs (1) count" in accuracy_caption(comparison)


def test_markdown_table_holds_exactly_the_cells() -> None:
    comparison = comparison_of(*seeds([0.98, 0.99]), final_run("adam", test=0.9))
    table = accuracy_table(comparison)

    lines = render(comparison, "markdown").splitlines()

    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [cells[0], *cells[2:]] == [table.headers, *table.rows]
    assert lines[-1] == accuracy_caption(comparison)


@pytest.mark.parametrize("metric", ["accuracy", "cost", "geometry", "classes", "networks", "tuning"])
def test_numbers_are_aligned_to_the_right_and_words_to_the_left_in_every_format(metric: Any) -> None:
    comparison = replace(whole(["adam", "sgd"], 3), searches=(search_result(), search_result(study="other")))

    latex = re.findall(r"\\begin{tabular}{(.*)}", render(comparison, "latex", metric))
    rules = [
        line for line in render(comparison, "markdown", metric).splitlines() if re.match(r"\|:?-+", line)
    ]

    for table, letters, rule in zip(build_tables(comparison, metric), latex, rules, strict=True):
        sides = [column.side for column in table.columns]
        assert letters == "".join(side[0] for side in sides)
        assert ["right" if cell.endswith(":") else "left" for cell in rule.strip("|").split("|")] == sides
        for column in table.columns:
            number = all(re.match(r"[-+<>]? ?\d|--", cell) for cell in column.cells)
            assert column.numeric == (number and column.header not in ("Outcomes", "Verdicts", "Worst class"))


def test_latex_table_has_booktabs_rules_and_escaped_cells() -> None:
    comparison = comparison_of(final_run("my_opt", "50%", seed=0), final_run("my_opt", "50%", seed=1))

    text = render(comparison, "latex")

    rules = [r"\begin{table*}", r"\begin{tabular}{llrrr}", r"\toprule", r"\midrule", r"\bottomrule"]
    ends = [r"\end{tabular}", r"\end{table*}"]
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


def test_caption_describes_the_spread_and_counts_excluded_runs() -> None:
    text = accuracy_caption(comparison_of(*seeds([0.98, 0.99]), unfinished=2, failed=1, superseded=0))

    assert "95 % Student t interval over seeds" in text
    assert "sampling error of the test examples" in text
    assert "Runs left out: 2 unfinished, 1 failed." in text
    assert "One seed" not in text


def test_caption_claims_no_interval_for_single_seeds() -> None:
    assert accuracy_caption(comparison_of(final_run(paper_setting=False))) == "One seed shows no spread."


def test_caption_describes_the_papers_values_if_there_are_any() -> None:
    assert accuracy_caption(comparison_of(final_run())).startswith(
        "The paper's values are of one seed; Diff. is ours minus the paper's, in percentage points."
    )


def test_caption_of_an_empty_comparison_states_that_there_are_no_runs() -> None:
    assert (
        accuracy_caption(comparison_of(failed=3))
        == "There are no finished final runs. Runs left out: 3 failed."
    )


def test_ranks_are_the_last_column_if_there_are_pairs() -> None:
    table = accuracy_table(whole([*SKILL], 5))

    assert table.headers[-1] == "Rank"
    assert {row[0]: row[-1] for row in table.rows} == {"SGD": "3", "Adam": "2", "lion": "1"}


def test_a_pair_shows_points_interval_p_value_and_verdict() -> None:
    table = pair_table(
        pairs_alone(KNOWN, KNOWN | {"a": "lion/small-batch", "b": "adamw/default", "p_holm": 0.0004})
    )

    assert table.headers == ["A", "B", "A - B (points)", "Interval", "p (Holm)", "Verdict for A"]
    assert table.rows == [
        ["Adam", "SGD (paper)", "+0.35", "-0.01 to +0.72", "0.012", "better"],
        ["lion (small-batch)", "AdamW (default)", "+0.35", "-0.01 to +0.72", "< 0.001", "better"],
    ]


def test_a_pair_of_one_seed_shows_its_difference_alone() -> None:
    table = pair_table(pairs_alone(SINGLE))

    assert table.rows == [["Adam", "SGD (paper)", "+0.35", "--", "--", "too few seeds"]]


def test_pairs_name_their_study_where_there_are_several() -> None:
    table = pair_table(pairs_alone(KNOWN, KNOWN | {"study": "other"}))

    assert table.headers[0] == "Study"
    assert [row[0] for row in table.rows] == ["quick", "other"]


def test_the_pairs_caption_states_the_detectable_difference_and_the_command_for_more_seeds() -> None:
    known = KNOWN | {"family": 2}
    pairs = [known, known | {"a": "lion/best", "seeds": 3}, SINGLE | {"b": "lion/best", "seeds": 3}]
    enough = seeds_to_detect([pair_of(**pair) for pair in pairs], 0.002)
    assert enough is not None

    assert pair_caption(pairs_alone(*pairs)) == (
        "Differences of quick are over 3 to 5 common seeds and 10,000 test examples."
        " Intervals are Bonferroni's and p-values Holm's, over 2 pairs."
        " Holm's tests decide; Bonferroni's intervals are wider, and may contain zero although a difference is"
        " significant."
        " The smallest difference that Bonferroni's test detects with a power of 80 % is 0.40 points,"
        f" for the pair whose difference varies most; to detect half of that takes about {enough} seeds:"
        f" optstudy train --study quick --config best --config paper --seeds {enough}."
        " Verdicts compare these configurations, not the optimizers at their best."
    )


def test_the_pairs_caption_explains_an_interval_with_zero_and_a_significant_difference() -> None:
    explained = "Holm's tests decide; Bonferroni's intervals are wider, and may contain zero"

    assert explained in pair_caption(pairs_alone(KNOWN))  # from -0.01 to +0.72 points, and better
    assert explained not in pair_caption(pairs_alone(KNOWN | {"low": 0.0001}))
    assert explained not in pair_caption(pairs_alone(KNOWN | {"verdict": "no difference shown"}))


def test_the_pairs_caption_names_no_number_of_seeds_where_the_images_are_too_few() -> None:
    text = pair_caption(pairs_alone(KNOWN | {"image_variance": 1e-6}))

    assert (
        "is 0.40 points, for the pair whose difference varies most; no number of seeds would detect half"
        in text
    )
    assert "optstudy train" not in text


@pytest.mark.parametrize("smallest", [1.8276, 3.11])
def test_the_pairs_caption_names_no_difference_that_accuracies_cannot_have(smallest: float) -> None:
    text = pair_caption(pairs_alone(KNOWN | {"smallest": smallest, "low": -2.6721, "high": 2.1721}))

    assert "detects no difference of accuracies with a power of 80 %, not even one of 100 points" in text
    assert f"{100 * smallest:.2f}" not in text
    assert "to detect one of 50 points takes about" in text
    assert "An interval from below -100 to above +100 points contains every possible difference." in text
    assert pair_of(**(KNOWN | {"smallest": smallest})).to_dict()["smallest"] is None


def test_a_wide_interval_of_an_accuracy_is_explained() -> None:
    explained = "An interval wider than ± 100 contains every possible accuracy."

    assert explained in accuracy_caption(comparison_of(*seeds([0.1, 0.9])))
    assert explained not in accuracy_caption(comparison_of(*seeds([0.8, 0.9])))


@pytest.mark.parametrize(("classes", "said"), [(("cat", "dog"), "dog"), ((), "1")])
def test_the_worst_class_has_its_name(classes: tuple[str, ...], said: str) -> None:
    predictions = Predictions(np.array([0, 1]), np.array([0, 0]), classes)
    evidence = Evidence((RunEvidence(final_run(), predictions=predictions),), looks=LOOKS)

    table = classes_table(compare(evidence))

    assert [row[table.headers.index("Worst class")] for row in table.rows] == [said]


def test_the_pairs_caption_claims_no_verdict_from_one_seed() -> None:
    assert pair_caption(pairs_alone(SINGLE)) == (
        "Differences of quick are over 1 common seed and 10,000 test examples. One seed supports no verdict."
        " Verdicts compare these configurations, not the optimizers at their best."
    )


def test_the_pairs_caption_asks_for_no_seeds_where_all_predictions_are_the_same() -> None:
    same = KNOWN | {"difference": 0.0, "seed_variance": 0.0, "image_variance": 0.0, "smallest": 0.0}

    text = pair_caption(pairs_alone(same | {"verdict": "equivalent"}))

    assert "over 1 pair." in text
    assert "smallest difference" not in text
    assert "optstudy train" not in text


def test_each_study_has_its_sentences_in_the_pairs_caption() -> None:
    text = pair_caption(pairs_alone(KNOWN, SINGLE | {"study": "other"}))

    assert text.index("Differences of quick") < text.index("Differences of other")
    assert text.count("Verdicts compare") == 1


def test_without_pairs_there_is_no_pair_table() -> None:
    comparison = comparison_of(final_run())

    assert pair_table(comparison).rows == []
    assert pair_caption(comparison) == ""
    for form in ("markdown", "latex"):
        assert "Holm" not in render(comparison, form)
    assert "tab:pairs" not in render(comparison, "latex")


def test_markdown_has_both_tables_with_a_cell_for_each_header_and_their_captions() -> None:
    comparison = whole(["adam", "sgd"], 3)

    text = render(comparison, "markdown")

    tables = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
        for part in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    ]
    for table, wanted in zip(tables, build_tables(comparison), strict=True):
        assert [table[0], *table[2:]] == [wanted.headers, *wanted.rows]
        assert {len(cells) for cells in table} == {len(wanted.headers)}
    assert [line for line in text.splitlines() if line and not line.startswith("|")] == [
        accuracy_caption(comparison),
        pair_caption(comparison),
    ]


def test_csv_holds_the_rows_with_their_ranks_and_no_pairs() -> None:
    lines = list(csv.DictReader(io.StringIO(render(whole([*SKILL], 5), "csv"))))

    assert [(line["optimizer"], line["rank"]) for line in lines] == [
        ("sgd", "3"),
        ("adam", "2"),
        ("lion", "1"),
    ]


def special() -> Comparison:
    """Names with every letter that means something to LaTeX, verdicts of all kinds, pairs of one seed."""
    runs = [
        *(
            final_run(name, "50%_&#", seed, study="a_b")
            for name in (r"x\y~z^{$}", "sgd", "lion")
            for seed in range(5)
        ),
        *(final_run(name, study="single") for name in ("adam", "sgd")),
    ]
    return comparison_of(*runs, correct=answers(runs), unfinished=1)


def test_latex_has_both_complete_tables() -> None:
    text = render(special(), "latex")

    for part in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\begin{tabular}",
        r"\end{tabular}",
        r"\caption{",
    ):
        assert text.count(part) == 2, part
    assert re.findall(r"\\label\{(.*)\}", text) == ["tab:comparison", "tab:pairs"]
    bare = re.sub(r"\\[{}]", "", text)
    depths = [bare[:end].count("{") - bare[:end].count("}") for end in range(len(bare) + 1)]
    assert min(depths) == depths[-1] == 0
    for table in text.split(r"\begin{tabular}")[1:]:
        lines = re.findall(r"^(.*) \\\\$", table, re.MULTILINE)
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1


def test_latex_prints_what_was_written() -> None:
    r"""In text, LaTeX's own font has other marks at < and >, and makes a dash of two hyphens."""
    text = render(special(), "latex")

    assert "$<$ 0.001" in text
    assert not re.search(r"(?<!\$)[<>](?!\$)", text)
    assert "-{}-study a\\_b" in text
    assert " & -- & -- & too few seeds" in text  # there a dash is meant
    assert text.isascii()


def test_latex_compiles(tmp_path: Path) -> None:
    compile_latex([render(special(), "latex")], tmp_path)


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_no_format_of_any_comparison_with_pairs_prints_nan(form: str) -> None:
    unlike = [*runs_of(["adam", "sgd"], 3), final_run("lion")]
    for comparison in (
        special(),
        whole(["adam", "sgd"], 1),
        whole(["adam", "sgd"], 2),
        comparison_of(*unlike, correct=answers(unlike)),
    ):
        assert comparison.pairs
        assert not re.search(r"\b(nan|inf)\b", render(comparison, form).lower())  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["markdown", "latex"])
@pytest.mark.parametrize("metric", ["cost", "geometry", "classes"])
def test_other_metrics_have_a_table_each_with_dashes_for_unknown_values(form: Any, metric: Any) -> None:
    bare, full = final_run("sgd"), final_run("adam")
    full = replace(
        full, target=0.97, cost_to_target=CostToTarget(2.0, 14.0, 1200.0),
        curvature=FinalCurvature(8.0, 4.0, 2.0, 1.9, 2.1, "separated", 20.0, math.nan), separated=0.25,
    )  # fmt: skip

    text = render(comparison_of(bare, full, correct=answers([full])), form, metric)

    assert "nan" not in text
    assert "inf" not in text
    [table] = build_tables(comparison_of(bare, full, correct=answers([full])), metric)
    assert {len(row) for row in table.rows} == {len(table.headers)}
    shown = {"cost": "1 of 1", "geometry": "1 separated", "classes": " to "}[metric]
    assert any(shown in cell for cell in table.rows[1])
    assert "--" in table.rows[0]


def test_the_share_of_steps_whose_ratio_was_separated_is_a_mean_over_the_runs() -> None:
    ending = FinalCurvature(8.0, 4.0, 2.0, 1.9, 2.1, "separated", 20.0, 0.1)
    runs = [
        replace(final_run(seed=seed), curvature=ending, separated=share)
        for seed, share in ((0, 0.5), (1, 1.0))
    ]

    [table] = build_tables(comparison_of(*runs), "geometry")

    assert table.rows[0][table.headers.index("Steps separated")] == "75 %"


def test_signs_have_a_column_where_a_run_has_recorded_one() -> None:
    earlier = FinalCurvature(8.0, -4.0, 2.0, 1.9, 2.1, "indefinite", 20.0, 0.1)
    today = replace(earlier, verdict="separated", sign="opposite")

    def table(*ends: FinalCurvature) -> Table:
        runs = [replace(final_run(seed=seed), curvature=end) for seed, end in enumerate(ends)]
        return build_tables(comparison_of(*runs), "geometry")[0]

    assert "Signs" not in table(earlier).headers
    assert "Signs are" not in table(earlier).caption
    mixed = dict(zip(table(earlier, today).headers, table(earlier, today).rows[0], strict=True))
    assert (mixed["Verdicts"], mixed["Signs"]) == ("1 indefinite, 1 separated", "2 opposite")
    assert "Signs are" in table(earlier, today).caption
