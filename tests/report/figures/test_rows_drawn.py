"""What the figures over several rows draw of their records."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import (
    PAPER,
    comparison_of,
    curvature_result,
    diverged,
    epoch,
    evidence_of,
    run_evidence,
    runs_of,
    search_result,
    with_run,
)
from finals import LOOKS
from matplotlib.axes import Axes
from numpy.typing import NDArray

from optstudy.records.naming import RowKey
from optstudy.records.run import CostToTarget, Predictions
from optstudy.records.search import Trial
from optstudy.report import figures
from optstudy.report.figures.rows import row_looks


def drawn(axes: Axes, line: int = 0) -> NDArray[np.float64]:
    return np.asarray(axes.lines[line].get_ydata(), dtype=np.float64)


def places(axes: Axes, line: int = 0) -> list[float]:
    return [float(x) for x in np.asarray(axes.lines[line].get_xdata(), dtype=np.float64)]


def band(axes: Axes) -> tuple[float, float]:
    corners = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    return float(corners[:, 1].min()), float(corners[:, 1].max())


def test_median_is_inside_the_band_from_minimum_to_maximum() -> None:
    runs = [
        replace(run_evidence(seed=seed), epochs=(epoch(1, norm), epoch(2, norm)))
        for seed, norm in enumerate((1.0, 2.0, 8.0))
    ]

    axes = figures.gradient_norms(evidence_of(*runs)).axes[0]

    assert drawn(axes).tolist() == [2.0, 2.0]
    assert band(axes) == (1.0, 8.0)
    assert axes.get_yscale() == "log"


def test_every_row_has_a_panel_and_all_medians_share_the_last() -> None:
    *panels, last = figures.gradient_norms(evidence_of(*runs_of(seeds=3))).axes

    assert [axes.get_title(loc="left") for axes in panels] == ["SGD", "AdaGrad", "Adam", "AdaHessian"]
    assert [line.get_color() for line in last.lines] == [LOOKS[name].colour for name in PAPER]
    for axes, line in zip(panels, last.lines, strict=True):
        np.testing.assert_array_equal(drawn(axes), line.get_ydata())


def test_a_seed_that_diverged_counts_as_infinite_from_there_on() -> None:
    runs = runs_of(["sgd"], 3)
    lost = [diverged(one, 1) for one in runs[:2]]

    axes = figures.gradient_norms(evidence_of(*lost, runs[2])).axes[0]

    assert np.isfinite(drawn(axes)).tolist() == [True] + [False] * 29
    assert axes.get_title(loc="left") == "SGD\n2 of 3 diverged"


def test_lines_are_turned_so_that_the_loss_rises_more_on_the_right() -> None:
    runs = [
        replace(one, curvature=curvature_result(1.0, sign))
        for one, sign in zip(runs_of(["sgd"], 2), (1, -1), strict=True)
    ]

    axes = figures.loss_lines(evidence_of(*runs)).axes[0]

    low, high = drawn(axes)[[0, -1]]
    assert low < high
    np.testing.assert_allclose(drawn(axes), curvature_result(1.0, 1).line)


def test_ratio_panel_counts_steps_back_from_the_end_and_names_the_share_of_each_verdict() -> None:
    one = run_evidence()
    assert one.trace is not None
    verdicts = np.array(["separated"] * 93 + ["degenerate"] * 7)
    signs = np.array(["opposite"] * 4 + ["same"] * 96)
    changed = replace(one.trace, verdict=verdicts, sign=signs)

    axes = figures.ratios(evidence_of(replace(one, trace=changed))).axes[0]

    assert places(axes)[0] == -99
    assert places(axes)[-1] == 0
    assert axes.get_ylim()[0] == 1
    assert axes.get_title(loc="left") == "SGD\nseparated 93 %, degenerate 7 %\nopposite signs 4 %"


def test_confusion_is_the_mean_of_the_seeds_shares() -> None:
    labels = np.array([0, 0, 1, 1])
    guesses = (np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    row = [
        replace(one, predictions=Predictions(labels, guess, ("a", "b")))
        for one, guess in zip(runs_of(["sgd"], 2), guesses, strict=True)
    ]

    [image] = figures.mean_confusion(row, "SGD").axes[0].images

    np.testing.assert_allclose(np.asarray(image.get_array()), [[75, 25], [0, 100]])


def test_surface_is_that_of_the_seed_with_the_median_rise() -> None:
    rises = (3.0, 1.0, 2.0)
    row = [
        replace(one, curvature=curvature_result(rise))
        for one, rise in zip(runs_of(["sgd"], 3), rises, strict=True)
    ]

    found = figures.loss_surface(row, "SGD")

    assert found.get_suptitle().startswith("SGD: seed 2, the median rise of 3 seeds")


def test_accuracies_show_seeds_mean_and_the_papers_value() -> None:
    runs = [with_run(run_evidence(seed=seed), test_accuracy=t) for seed, t in enumerate((0.98, 0.99))]
    found = evidence_of(*runs)

    axes = figures.accuracies(comparison_of(found), found).axes[0]

    at = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert at[0] == pytest.approx([98, 99])
    assert [98.5] in [pytest.approx(x) for x in at]
    assert [98.93] in [pytest.approx(x) for x in at]


def test_differences_are_in_points_with_the_verdict_in_words() -> None:
    comparison = comparison_of(evidence_of(*runs_of(seeds=4)))

    axes = figures.differences(comparison, margin=0.001).axes[0]

    xs = [places(axes, line) for line in range(len(axes.lines))]
    points = [x[0] for x in xs if len(x) == 1]
    assert points == pytest.approx([100 * pair.test.difference.mean for pair in comparison.pairs])
    words = [
        text.get_text().replace("\n", " ")
        for text in axes.texts
        if text.get_text() != "Verdict for the first"
    ]
    assert words == [pair.test.verdict for pair in comparison.pairs]


def test_every_trial_spends_its_work_and_only_completed_ones_improve_the_best() -> None:
    one = search_result()
    trials = (
        Trial(0, {"lr": 0.1}, "completed", 0.97, (0.97,), 6, 10.0),
        Trial(1, {"lr": 0.2}, "pruned", 0.99, (0.99,), 2, 5.0),
        Trial(2, {"lr": 0.3}, "diverged", None, (None,), 2, 3.0),
        Trial(3, {"lr": 0.4}, "completed", 0.98, (0.98,), 6, 10.0),
    )

    found = figures.tuning_curves(evidence_of(searches=[replace(one, trials=trials)]))

    by_trial, by_work = found.axes
    assert drawn(by_trial).tolist() == [97, 97, 97, 98]
    assert places(by_work) == [10, 15, 18, 28]


@pytest.mark.parametrize(
    ("sampler", "pruner", "bands"),
    [("tpe", "none", 0), ("tpe", "median", 0), ("random", "median", 0), ("random", "none", 1)],
)
def test_only_a_random_search_without_pruning_has_its_own_band(sampler: str, pruner: str, bands: int) -> None:
    found = figures.tuning_curves(evidence_of(searches=[search_result(sampler=sampler, pruner=pruner)]))

    assert [len(axes.collections) for axes in found.axes] == [bands, bands]


def test_searches_that_differ_in_their_seed_alone_are_one_line_with_a_band() -> None:
    searches = [search_result(study=f"s{seed}", seed=seed) for seed in range(3)]

    axes = figures.tuning_curves(evidence_of(searches=searches)).axes[0]

    assert (len(axes.lines), len(axes.collections)) == (1, 1)


def test_searches_of_other_settings_stay_apart() -> None:
    searches = [search_result(study="a"), search_result(study="b", seed=1, trials=8)]

    axes = figures.tuning_curves(evidence_of(searches=searches)).axes[0]

    assert (len(axes.lines), len(axes.collections)) == (2, 0)


def test_kendalls_tau_and_the_number_of_runs_stand_in_the_title() -> None:
    found = evidence_of(*runs_of(["sgd"], 10))
    comparison = comparison_of(found)
    geometry = comparison.rows[0].geometry
    assert geometry is not None

    axes = figures.flatness(found, comparison).axes[0]

    written = axes.get_title(loc="left").replace("\N{MINUS SIGN}", "-")
    assert written == f"SGD\nτ-b {geometry.flatness.tau:.2f}, 10 runs"
    assert len(places(axes)) == 10


def test_runs_that_never_reached_the_target_leave_the_curve_below_a_hundred() -> None:
    reached = (CostToTarget(2.0, 1.0, 200.0), CostToTarget(4.0, 1.0, 400.0), None, None)
    runs = [with_run(run_evidence(seed=seed), cost_to_target=spent) for seed, spent in enumerate(reached)]

    axes = figures.times_to_target(evidence_of(*runs)).axes[0]

    assert drawn(axes).tolist() == [0, 25, 50, 50]
    assert places(axes) == [2, 2, 4, 30]
    assert axes.lines[1].get_markerfacecolor() == "white"


def test_epochs_have_ticks_at_whole_numbers() -> None:
    runs = [with_run(run_evidence(seed=n), cost_to_target=CostToTarget(n + 1.0, 1.0, 90.0)) for n in range(2)]

    axes = figures.times_to_target(evidence_of(*runs)).axes[0]

    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert 1 in ticks
    assert all(float(tick).is_integer() for tick in ticks)


def test_rows_of_one_optimizer_share_its_line_and_marker_and_differ_in_shade() -> None:
    rows = [RowKey(study, "adam", config) for study in ("a", "b") for config in ("best", "paper")]

    found = list(row_looks(rows, LOOKS).values())

    assert len({look.colour for look in found}) == 4
    assert {(look.line, look.marker) for look in found} == {(LOOKS["adam"].line, LOOKS["adam"].marker)}
    assert [look.label for look in found] == ["a: Adam", "a: Adam (paper)", "b: Adam", "b: Adam (paper)"]
