"""Where a study and its runs are stored."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Location:
    """A workspace and the MLflow server of its runs."""

    workspace: Path = Path()  # holds tuning/ and mlruns/
    tracking_uri: str | None = None  # by default MLFLOW_TRACKING_URI, else the workspace's own store
