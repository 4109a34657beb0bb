"""What goes into MLflow and comes back. The only importer of mlflow."""

from optstudy.tracking.connection import shown
from optstudy.tracking.opening import open_tracking, open_written
from optstudy.tracking.records import (
    Ending,
    FinalRun,
    FinalRuns,
    Known,
    Predictions,
    Spent,
    ending_of,
    of_percent,
    to_percent,
)
from optstudy.tracking.runs import Tracking
from optstudy.tracking.saving import save_model

__all__ = [
    "Ending",
    "FinalRun",
    "FinalRuns",
    "Known",
    "Predictions",
    "Spent",
    "Tracking",
    "ending_of",
    "of_percent",
    "open_tracking",
    "open_written",
    "save_model",
    "shown",
    "to_percent",
]
