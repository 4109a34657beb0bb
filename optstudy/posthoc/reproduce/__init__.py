"""Rerun runs from their records, and compare them metric by metric."""

from optstudy.posthoc.reproduce.compare import MetricComparison, Series, compare_metric
from optstudy.posthoc.reproduce.recorded import RecordedRun, recorded_in_archive, recorded_in_mlflow
from optstudy.posthoc.reproduce.rerun import TOLERANCE, Reproduced, reproduce

__all__ = [
    "TOLERANCE",
    "MetricComparison",
    "RecordedRun",
    "Reproduced",
    "Series",
    "compare_metric",
    "recorded_in_archive",
    "recorded_in_mlflow",
    "reproduce",
]
