"""Runs made again from their records, and compared with them metric by metric."""

from optstudy.reproduction.differing import Differing
from optstudy.reproduction.recorded import Recorded, recorded_in_archive, recorded_in_mlflow
from optstudy.reproduction.repeating import TOLERANCE, Again, Reproduced, reproduce
from optstudy.reproduction.series import Judged, Series, judge

__all__ = [
    "TOLERANCE",
    "Again",
    "Differing",
    "Judged",
    "Recorded",
    "Reproduced",
    "Series",
    "judge",
    "recorded_in_archive",
    "recorded_in_mlflow",
    "reproduce",
]
