"""Summaries of a row's runs beside accuracy: test images, cost to the target, curvature."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from optstudy.records.run import CostToTarget, FinalRun, Predictions
from optstudy.statistics import Interval, Rank, mean_interval, rank_correlation, wilson_interval

_MEANS = ("lambda_1", "lambda_2", "ratio", "trace", "loss_rise")  # of the curvature, over seeds


@dataclass(frozen=True)
class ImageSummary:
    """Accuracy on the test images, mean over seeds; fractions."""

    count: int
    low: float  # Wilson interval of the mean accuracy: the sampling error of the images alone
    high: float
    worst_class: int
    worst_accuracy: float  # mean over seeds


@dataclass(frozen=True)
class ToTarget:
    """The cost at which a target test accuracy was reached, median over seeds.

    A run that never reached it is censored: the median is known if more than half of the seeds reached it.
    """

    target: float  # fraction
    reached: int  # runs
    epochs: float  # median; nan if half of the seeds or more never reached it
    seconds: float
    gradient_work: float


@dataclass(frozen=True)
class Geometry:
    """The curvature at the end of training; means over the measured runs with Student t intervals."""

    runs: int
    lambda_1: Interval
    lambda_2: Interval
    ratio: Interval
    trace: Interval
    loss_rise: Interval
    verdicts: dict[str, int]  # number of runs by verdict on the ratio
    separated: Interval  # share of the tracked steps whose ratio was separated; nan if untracked
    flatness: Rank  # rank correlation of loss rise and test error over these runs; descriptive


def summarise_images(predictions: Sequence[Predictions]) -> ImageSummary | None:
    """Summarise predictions of the same images over seeds; None without any."""
    if not predictions:
        return None
    labels = predictions[0].labels
    correct = np.mean([one.correct for one in predictions], axis=0)
    by_class = {int(label): float(correct[labels == label].mean()) for label in np.unique(labels)}
    worst = min(by_class, key=lambda label: by_class[label])
    share = wilson_interval(float(correct.sum()), len(labels))
    assert share.low is not None
    assert share.high is not None
    return ImageSummary(len(labels), share.low, share.high, worst, by_class[worst])


def summarise_target(runs: Sequence[FinalRun]) -> ToTarget | None:
    """Summarise the cost at which runs reached their study's target; None without a target."""
    target = runs[0].target
    if target is None:
        return None
    reached = [(run, run.cost_to_target) for run in runs if run.cost_to_target is not None]

    def median(cost: Callable[[FinalRun, CostToTarget], float]) -> float:
        if 2 * len(reached) <= len(runs):
            return math.nan
        censored = [math.inf] * (len(runs) - len(reached))
        return float(np.median([*(cost(run, spent) for run, spent in reached), *censored]))

    return ToTarget(
        target,
        len(reached),
        epochs=median(lambda _, spent: spent.epochs),
        seconds=median(_seconds_to_target),
        gradient_work=median(lambda _, spent: spent.gradient_work),
    )


def _seconds_to_target(run: FinalRun, spent: CostToTarget) -> float:
    if run.step_seconds is None:
        return spent.seconds
    return run.pace_seconds * spent.gradient_work / run.gradient_work  # all steps take the same work


def summarise_geometry(runs: Sequence[FinalRun]) -> Geometry | None:
    """Summarise the curvature at the end of runs; None if none was measured."""
    ends = [run.curvature for run in runs if run.curvature is not None]
    if not ends:
        return None
    errors = [1 - run.test_accuracy for run in runs if run.curvature is not None]
    means = {name: _mean([getattr(end, name) for end in ends]) for name in _MEANS}
    return Geometry(
        runs=len(ends),
        **means,
        verdicts=dict(sorted(Counter(end.verdict for end in ends).items())),
        separated=_mean([run.separated for run in runs if run.separated is not None]),
        flatness=rank_correlation([end.loss_rise for end in ends], errors),
    )


def _mean(values: Sequence[float]) -> Interval:
    finite = [value for value in values if math.isfinite(value)]
    return mean_interval(finite) if finite else Interval(math.nan, None, None)
