"""What a study leaves, clock readings apart, to compare studies that ran in other ways."""

import io
import json
from pathlib import Path
from typing import Any

import cases
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from optstudy.study.driver import Study
from optstudy.tracking import embedded

CLOCKS = {
    "seconds",
    "finished_at",
    "epoch_seconds",
    "final/seconds",
    "final/step_seconds",
    "step_seconds",
    "timed_at",
    "final/seconds_to_target",
    "checksum",  # of a file with such readings
}  # readings that differ from run to run


def timeless(value: Any) -> Any:
    """Return JSON without clock readings."""
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in CLOCKS}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def rung_files(workspace: Path) -> dict[str, Path]:
    folder = workspace / "tuning" / "studies" / "tiny" / "rungs"
    return {str(path.relative_to(folder)): path for path in folder.glob("*/[0-9]*.json")}


def logged(client: MlflowClient, run: Run) -> dict[str, Any]:
    """Return what MLflow has of a run: every point of every history, and the data among its artifacts."""
    run_id = run.info.run_id
    histories = {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run_id, name))
        for name in run.data.metrics
        if name not in CLOCKS
    }
    content = {
        found.path: Path(client.download_artifacts(run_id, found.path)).read_bytes()
        for found in client.list_artifacts(run_id)
        if not found.path.endswith(".png")
    }
    data: dict[str, Any] = {}
    for name, stored in content.items():
        if name.endswith(".json"):
            data[name] = timeless(json.loads(stored))
        elif name.endswith(".npz"):
            with np.load(io.BytesIO(stored)) as arrays:
                data[name] = {key: (str(arrays[key].dtype), arrays[key].tobytes()) for key in arrays}
        else:
            data[name] = cases.bits(torch.load(io.BytesIO(stored), weights_only=True))
    return {"status": run.info.status, "params": run.data.params, "metrics": histories, "data": data}


def outcome(workspace: Path, uri: str | None = None) -> dict[str, Any]:
    """Return everything that a study leaves and that must not depend on how it was run, or where it logs."""
    client = MlflowClient(uri or embedded.uri(workspace))
    found: dict[str, Any] = {}
    for kind in ("tuning", "final"):
        experiment = client.get_experiment_by_name(f"tiny/{kind}")
        assert experiment is not None
        for run in client.search_runs([experiment.experiment_id]):
            name = run.info.run_name
            found[f"{name}, again" if name in found else name] = logged(client, run)
    for path in sorted((workspace / "tuning" / "best" / "tiny").glob("*.json")):
        found[path.name] = {**json.loads(path.read_text()), "commit": None}
    found["rungs"] = {
        name: timeless(json.loads(path.read_text())) for name, path in rung_files(workspace).items()
    }
    found["table"] = timeless(Study("tiny", workspace=workspace, tracking_uri=uri).compare().to_dict())
    return found
