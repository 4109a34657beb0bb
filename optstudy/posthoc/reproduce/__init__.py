"""Runs made again from their records, and compared with them metric by metric."""

from optstudy.posthoc.reproduce.compare import Judged, Series, judge
from optstudy.posthoc.reproduce.recorded import RecordedRun, recorded_in_archive, recorded_in_mlflow
from optstudy.posthoc.reproduce.rerun import TOLERANCE, Reproduced, reproduce

__all__ = [
    "TOLERANCE",
    "Judged",
    "RecordedRun",
    "Reproduced",
    "Series",
    "judge",
    "recorded_in_archive",
    "recorded_in_mlflow",
    "reproduce",
]
