"""Where a study and its runs are stored."""

import contextlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Location:
    """A workspace and the MLflow server of its runs."""

    workspace: Path = Path()  # holds tuning/ and mlruns/
    tracking_uri: str | None = None  # by default MLFLOW_TRACKING_URI, else the workspace's own store

    @property
    def uri(self) -> str | None:
        """Address of the server or database of the runs; None for the workspace's own store."""
        return self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None


def workspace_option(workspace: Path) -> str:
    """Return the option that names a workspace in a command, after a space; "" for the current folder."""
    return "" if workspace == Path() else f" --workspace {shlex.quote(str(workspace))}"


def study_names(workspace: Path) -> list[str]:
    """Return the names of the workspace's studies, the most recent last."""
    specifications = (workspace / "tuning" / "studies").glob("*/specification.json")
    written: dict[str, int] = {}
    for path in specifications:
        with contextlib.suppress(OSError):  # a loop of links, or removed a moment ago
            written[path.parent.name] = path.stat().st_mtime_ns
    return sorted(written, key=lambda name: written[name])
