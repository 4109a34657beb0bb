"""Summaries of a row's runs other than accuracy: test images, cost to the target, curvature."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from optstudy.records.curvature import recorded_sign
from optstudy.records.run import CostToTarget, FinalRun, Predictions
from optstudy.statistics import Interval, RankCorrelation, mean_interval, rank_correlation, wilson_interval

_MEANS = ("lambda_1", "lambda_2", "ratio", "trace", "loss_rise")  # of the curvature, over seeds


@dataclass(frozen=True)
class ImageSummary:
    """Accuracy on the test images, mean over seeds; fractions."""

    count: int
    low: float  # Wilson interval of the mean accuracy: only the sampling error of the images
    high: float
    worst_class: int
    worst_accuracy: float  # mean over seeds
    worst_name: str = ""  # of the worst class; its number if the names were not recorded


@dataclass(frozen=True)
class TargetSummary:
    """The cost at which a target test accuracy was reached, median over seeds.

    A run that never reached it is censored: the median is known if more than half of the seeds reached it.
    """

    target: float  # fraction
    reached: int  # runs
    epochs: float  # median; nan if half of the seeds or more never reached it
    seconds: float
    gradient_work: float


@dataclass(frozen=True)
class GeometrySummary:
    """The curvature at the end of training; means over the measured runs with Student t intervals."""

    runs: int
    lambda_1: Interval
    lambda_2: Interval
    ratio: Interval
    trace: Interval
    loss_rise: Interval
    verdicts: dict[str, int]  # number of runs by verdict on the ratio
    signs: dict[
        str, int
    ]  # number of runs by sign of the ratio, "not recorded" in format 0; empty if none was
    separated: Interval  # share of the tracked steps whose ratio was separated; nan if untracked
    flatness: RankCorrelation  # rank correlation of loss rise and test error over these runs; descriptive


def summarise_images(predictions: Sequence[Predictions]) -> ImageSummary | None:
    """Summarise predictions of the same images over seeds; None if there are none."""
    if not predictions:
        return None
    labels = predictions[0].labels
    correct = np.mean([run.correct for run in predictions], axis=0)
    by_class = {int(label): float(correct[labels == label].mean()) for label in np.unique(labels)}
    worst = min(by_class, key=lambda label: by_class[label])
    interval = wilson_interval(float(correct.sum()), len(labels))
    assert interval.low is not None
    assert interval.high is not None
    names = predictions[0].classes
    name = names[worst] if names else str(worst)
    return ImageSummary(len(labels), interval.low, interval.high, worst, by_class[worst], name)


def summarise_target(runs: Sequence[FinalRun]) -> TargetSummary | None:
    """Summarise the cost at which runs reached their study's target; None without a target."""
    target = runs[0].target
    if target is None:
        return None
    reached = [(run, run.cost_to_target) for run in runs if run.cost_to_target is not None]

    def median(value: Callable[[FinalRun, CostToTarget], float]) -> float:
        if 2 * len(reached) <= len(runs):
            return math.nan
        censored = [math.inf] * (len(runs) - len(reached))
        return float(np.median([*(value(run, cost) for run, cost in reached), *censored]))

    return TargetSummary(
        target,
        len(reached),
        epochs=median(lambda _, cost: cost.epochs),
        seconds=median(_seconds_to_target),
        gradient_work=median(lambda _, cost: cost.gradient_work),
    )


def _seconds_to_target(run: FinalRun, cost: CostToTarget) -> float:
    if run.step_seconds is None:
        return cost.seconds
    return run.pace_seconds * cost.gradient_work / run.gradient_work  # every step takes the same work


def summarise_geometry(runs: Sequence[FinalRun]) -> GeometrySummary | None:
    """Summarise the curvature at the end of runs; None if none was measured."""
    curvatures = [run.curvature for run in runs if run.curvature is not None]
    if not curvatures:
        return None
    errors = [1 - run.test_accuracy for run in runs if run.curvature is not None]
    signs = [recorded_sign(curvature.verdict, curvature.sign) or "not recorded" for curvature in curvatures]
    means = {name: _mean([getattr(curvature, name) for curvature in curvatures]) for name in _MEANS}
    return GeometrySummary(
        runs=len(curvatures),
        **means,
        verdicts=dict(sorted(Counter(curvature.verdict for curvature in curvatures).items())),
        signs=dict(sorted(Counter(signs).items())) if any(curvature.sign for curvature in curvatures) else {},
        separated=_mean([run.separated for run in runs if run.separated is not None]),
        flatness=rank_correlation([curvature.loss_rise for curvature in curvatures], errors),
    )


def _mean(values: Sequence[float]) -> Interval:
    finite = [value for value in values if math.isfinite(value)]
    return mean_interval(finite) if finite else Interval(math.nan, None, None)
