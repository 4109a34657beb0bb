"""Images, cost and geometry over the seeds of one optimizer."""

import math
from dataclasses import replace

import numpy as np
import pytest
from finals import final_run
from scipy import stats

from optstudy.comparison.summaries import summarise_geometry, summarise_images, summarise_target
from optstudy.records.curvature import FinalCurvature
from optstudy.records.run import CostToTarget, FinalRun, Predictions
from optstudy.statistics import Interval

ENDS = FinalCurvature(8.0, 4.0, 2.0, 1.9, 2.1, "separated", 20.0, 1.5)


def reached(*epochs: float | None) -> list[FinalRun]:
    """Runs that reached their target after so many epochs; None never did."""
    return [
        replace(
            final_run(seed=seed),
            target=0.97,
            cost_to_target=None if count is None else CostToTarget(count, 10 * count, 600 * count),
        )
        for seed, count in enumerate(epochs)
    ]


def test_the_worst_class_is_that_of_the_lowest_mean_over_seeds() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    first = Predictions(labels, np.array([0, 0, 1, 0, 2, 2]))
    second = Predictions(labels, np.array([0, 1, 1, 0, 2, 2]))

    summary = summarise_images([first, second])

    assert summary is not None
    assert (summary.count, summary.worst_class, summary.worst_accuracy) == (6, 1, 0.5)


def test_the_interval_of_the_images_is_wilsons_at_the_mean_over_seeds() -> None:
    labels = np.zeros(1000, int)
    seeds = [Predictions(labels, (np.arange(1000) < wrong).astype(int)) for wrong in (10, 30)]

    summary = summarise_images(seeds)

    expected = stats.binomtest(980, 1000).proportion_ci(0.95, method="wilson")
    assert summary is not None
    assert (summary.low, summary.high) == pytest.approx((expected.low, expected.high))


def test_without_predictions_there_is_no_image_summary() -> None:
    assert summarise_images([]) is None


def test_time_to_target_is_the_median_over_seeds() -> None:
    summary = summarise_target(reached(3, 1, 2))

    assert summary is not None
    assert (summary.reached, summary.epochs, summary.seconds, summary.gradient_work) == (3, 2, 20, 1200)


def test_a_seed_that_never_reached_it_counts_as_later_than_all_others() -> None:
    summary = summarise_target(reached(1, None, 2))

    assert summary is not None
    assert (summary.reached, summary.epochs) == (2, 2)


@pytest.mark.parametrize("epochs", [[None], [1.0, None], [1.0, None, None], [None, None]])
def test_there_is_no_median_if_half_of_the_seeds_or_more_never_reached_the_target(
    epochs: list[float | None],
) -> None:
    summary = summarise_target(reached(*epochs))

    assert summary is not None
    assert math.isnan(summary.epochs)


def test_a_study_without_a_target_has_no_time_to_it() -> None:
    assert summarise_target([final_run()]) is None


def ended(*values: float, tests: tuple[float, ...] = ()) -> list[FinalRun]:
    accuracies = tests or (0.98,) * len(values)
    return [
        replace(final_run(seed=seed, test=test), curvature=replace(ENDS, lambda_1=value, loss_rise=value))
        for seed, (value, test) in enumerate(zip(values, accuracies, strict=True))
    ]


def test_geometry_is_means_with_students_interval_and_counts_of_verdicts() -> None:
    runs = ended(7.0, 8.0, 9.0)
    assert runs[0].curvature is not None
    runs[0] = replace(runs[0], curvature=replace(runs[0].curvature, verdict="degenerate"))

    summary = summarise_geometry(runs)

    low, high = stats.t.interval(0.95, 2, loc=8.0, scale=stats.sem([7.0, 8.0, 9.0]))
    assert summary is not None
    assert (summary.lambda_1.low, summary.lambda_1.high) == pytest.approx((low, high))
    assert summary.verdicts == {"degenerate": 1, "separated": 2}


def test_signs_are_counted_if_a_run_has_recorded_one() -> None:
    ends = [replace(ENDS, verdict="indefinite"), ENDS, replace(ENDS, sign="same")]
    runs = [replace(final_run(seed=seed), curvature=end) for seed, end in enumerate(ends)]

    mixed, earlier = summarise_geometry(runs), summarise_geometry(runs[:2])

    assert mixed is not None
    assert mixed.signs == {"not recorded": 1, "opposite": 1, "same": 1}
    assert earlier is not None
    assert (earlier.verdicts, earlier.signs) == ({"indefinite": 1, "separated": 1}, {})


def test_runs_without_curvature_are_left_out_and_none_has_none() -> None:
    summary = summarise_geometry([*ended(7.0, 9.0), final_run(seed=9)])

    assert summary is not None
    assert (summary.runs, summary.lambda_1.mean) == (2, 8.0)
    assert summarise_geometry([final_run()]) is None


def test_a_number_that_is_not_finite_is_left_out_of_its_mean() -> None:
    summary = summarise_geometry(ended(7.0, math.inf, 9.0))
    nothing = summarise_geometry(ended(math.nan))

    assert summary is not None
    assert summary.lambda_1.mean == 8.0
    assert nothing is not None
    assert math.isnan(nothing.lambda_1.mean)
    assert nothing.lambda_1 != Interval(0.0, None, None)


def test_flatness_is_kendalls_tau_of_the_loss_rise_with_the_test_error() -> None:
    """Where the rise is largest the error is smallest."""
    summary = summarise_geometry(ended(1.0, 2.0, 3.0, tests=(0.95, 0.96, 0.97)))

    assert summary is not None
    assert (summary.flatness.tau, summary.flatness.runs) == (-1.0, 3)
