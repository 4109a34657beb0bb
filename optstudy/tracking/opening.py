"""Which store a workspace's runs are in."""

import os
from pathlib import Path

from optstudy import store
from optstudy.errors import OptstudyError, UsageError
from optstudy.tracking.runs import Tracking


def open_tracking(workspace: Path, tracking_uri: str | None) -> tuple[Tracking, str | None]:
    """Open an MLflow server, by default MLFLOW_TRACKING_URI, or the workspace's own store; say what was mended."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return Tracking(uri), None
    try:
        store.database(workspace).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        folder = store.database(workspace).parent
        raise OptstudyError(f"cannot write {folder}: {error.strerror}; choose another --workspace") from error
    notice = store.mend_moved(workspace)
    return Tracking(store.uri(workspace), store.artifacts(workspace)), notice


def open_written(workspace: Path, tracking_uri: str | None) -> Tracking:
    """Open what studies have written, as `open_tracking` does, but make nothing where there is nothing.

    Raises:
        UsageError: If the workspace has no store.
    """
    if not (tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or store.database(workspace).exists()):
        raise UsageError(f"no study has run in {workspace.resolve()} yet; run: optstudy study --preset quick")
    return open_tracking(workspace, tracking_uri)[0]
