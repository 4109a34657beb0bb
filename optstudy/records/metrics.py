"""The metrics that runs log, by name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from optstudy.records.curvature import CurvatureResult, FinalCurvature
from optstudy.records.eigen_trace import eigen_trace
from optstudy.records.run import EpochRecord, Observation


def to_percent(accuracy: float) -> float:
    """Write a fraction as metrics have it, since MLflow's pages show four digits; `of_percent` reads it."""
    return round(100 * accuracy, 9)


def of_percent(metric: float) -> float:
    """Return the fraction that a metric in percent stands for."""
    return round(metric / 100, 12)


def curvature_of(metrics: Mapping[str, float], verdict: str) -> FinalCurvature | None:
    """Return the curvature where a run ended from its metrics; None where it was not measured."""
    if "final/lambda_1" not in metrics:
        return None
    names = [field.name for field in fields(FinalCurvature) if field.name != "verdict"]
    numbers = {name: metrics.get(f"final/{name}", math.nan) for name in names}
    return FinalCurvature(**numbers, verdict=verdict or "unresolved")


def final_metrics(
    records: Sequence[EpochRecord], seen: Sequence[Observation], curvature: CurvatureResult | None
) -> dict[str, float]:
    """Return the metrics of where a run ended that a run made again has too: no times, and those that are finite."""
    last = records[-1]
    found = {
        "final/train_accuracy_pct": to_percent(last.exact_accuracy or 0.0),
        "final/test_accuracy_pct": to_percent(last.heldout_accuracy),
        "final/steps": float(sum(record.gradients for record in records)),
        "final/gradient_work": sum(record.gradient_work for record in records),
        **separated_share(seen),
    }
    return found if curvature is None else found | _curvature_metrics(curvature.final)


def _curvature_metrics(curvature: FinalCurvature) -> dict[str, float]:
    numbers = {name: value for name, value in asdict(curvature).items() if name != "verdict"}
    return {f"final/{name}": value for name, value in numbers.items() if math.isfinite(value)}


def spent_to_target(records: Sequence[EpochRecord], target: float) -> dict[str, float]:
    """Return what a run spent until its test accuracy first reached the target; nothing if it never did."""
    reached = next((n for n, record in enumerate(records, 1) if record.heldout_accuracy >= target), None)
    spent = records[:reached]
    if reached is None:
        return {}
    return {
        "final/epochs_to_target": float(reached),
        "final/seconds_to_target": sum(record.seconds for record in spent),
        "final/work_to_target": sum(record.gradient_work for record in spent),
    }


def separated_share(observations: Sequence[Observation]) -> dict[str, float]:
    """Return the share of the steps looked at whose ratio was separated, as a metric; nothing without steps."""
    trace = eigen_trace(observations)
    return {} if trace is None else {"final/separated": float((trace.verdict == "separated").mean())}


def step_metrics(observations: Sequence[Observation]) -> list[tuple[str, float, int]]:
    """Return the metrics of single steps: name, value, step; only those that are finite."""
    found = []
    for seen in observations:
        if "lambda_1" not in seen.values:
            continue
        names = {"lambda_1": "lambda_1", "lambda_2": "lambda_2", "ratio": "ratio", "residual_1": "residual"}
        if seen.probe == "preconditioned":
            names = {"lambda_1": "preconditioned_lambda_1"}
        for name, called in names.items():
            value = seen.values[name]
            if isinstance(value, float):
                found.append((f"eigen/{called}", value, seen.step))
    return found


def epoch_metrics(record: EpochRecord, heldout: str) -> list[tuple[str, float, int, float]]:
    """Return the metrics of one epoch: name, value, step and Unix time.

    Args:
        record: The epoch.
        heldout: What its held-out images are, ``validation`` or ``test``.
    """
    values = {
        "train/loss": record.train_loss,
        "train/accuracy": record.train_accuracy,
        f"{heldout}/loss": record.heldout_loss,
        f"{heldout}/accuracy": record.heldout_accuracy,
        "gradient_norm": record.gradient_norm,
        "full_gradient_norm": record.full_gradient_norm,
        "train/exact_loss": record.exact_loss,
        "train/exact_accuracy": record.exact_accuracy,
        "epoch_seconds": record.seconds,
    }
    return [(n, v, record.epoch, record.finished_at) for n, v in values.items() if v is not None]


EPOCH_METRICS = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "gradient_norm": "gradient_norm",
    "test/loss": "heldout_loss",
    "test/accuracy": "heldout_accuracy",
    "train/exact_loss": "exact_loss",
    "train/exact_accuracy": "exact_accuracy",
    "full_gradient_norm": "full_gradient_norm",
}
