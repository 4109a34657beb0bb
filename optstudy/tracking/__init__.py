"""Write runs to MLflow and read them back. The only importer of mlflow."""

from optstudy.tracking.connection import hide_credentials
from optstudy.tracking.decode import LoggedRun, StoredExperiment
from optstudy.tracking.model import save_model
from optstudy.tracking.stores import open_existing, open_tracking
from optstudy.tracking.writer import Tracking

__all__ = [
    "LoggedRun",
    "StoredExperiment",
    "Tracking",
    "hide_credentials",
    "open_existing",
    "open_tracking",
    "save_model",
]
