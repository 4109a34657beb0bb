"""Decode MLflow runs into typed records."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.entities import Run

from optstudy.records.metrics import TEST_ACCURACY, Tag, read_final_metrics, read_provenance
from optstudy.records.run import FinalRun

OTHER_SPECIFICATION = "of another specification"
MARGIN = 0.001  # of runs logged before studies had a margin


@dataclass(frozen=True)
class StoredExperiment:
    """An experiment of a study, which may have been deleted in MLflow."""

    experiment_id: str
    name: str  # STUDY/KIND, also after it was renamed
    stored_name: str
    deleted: bool
    runs: int
    folder: Path | None  # of its artifacts in the embedded store; None on a server

    @property
    def removed(self) -> bool:
        """Whether `Tracking.remove_experiment` has removed it."""
        return self.deleted and self.stored_name != self.name


@dataclass(frozen=True)
class LoggedRun:
    """A run that is already logged in MLflow."""

    run_id: str
    key: str  # hash of everything that determines the run
    finished: bool
    ended: bool  # finished, or a trial that was pruned or failed
    lost: bool = False  # finished, but its files are gone, so it must be logged again
    space: str = ""  # hash of the space of a search; "" if it was not recorded
    problem: str = ""  # why it failed
    curvature_problem: str = ""  # why its curvature is missing, which a rerun tries to measure again
    trace_problem: str = ""  # why the eigenvalues of its last steps are missing


def decode_logged_run(run: Run, *, embedded: bool) -> LoggedRun:
    """Decode the state of a run; only the artifacts of the embedded store are checked for loss."""
    finished, tags = run.info.status == "FINISHED", run.data.tags
    ended = finished or tags.get(Tag.OUTCOME) in ("pruned", "failed")
    writes_files = tags.get(Tag.KIND) in ("search", "final")
    folder = local_folder(run.info.artifact_uri or "")
    lost = embedded and finished and writes_files and not (folder and folder.is_dir())
    return LoggedRun(
        run_id=run.info.run_id,
        key=tags.get(Tag.KEY, ""),
        finished=finished and not lost,
        ended=ended and not lost,
        lost=lost,
        space=tags.get(Tag.SPACE, ""),
        problem=tags.get(Tag.PROBLEM, "") if tags.get(Tag.OUTCOME) == "failed" else "",
        curvature_problem=tags.get(Tag.CURVATURE_PROBLEM, ""),
        trace_problem=tags.get(Tag.TRACE_PROBLEM, ""),
    )


def local_folder(uri: str) -> Path | None:
    """Return the local folder of an artifact URI; None if it is on a server or in a bucket."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and parts.path else None


def exclusion_reason(run: Run, *, of_another_specification: bool) -> str | None:
    """Return why a final run is excluded from comparisons; None if it is not."""
    outcome = run.data.tags.get(Tag.OUTCOME, "")
    if of_another_specification:
        return OTHER_SPECIFICATION
    if run.data.tags.get(Tag.SUPERSEDED) == "true":
        return "superseded"
    if run.info.status == "FAILED" or outcome == "failed":
        return "failed"
    if run.info.status != "FINISHED" or TEST_ACCURACY not in run.data.metrics:
        return "unfinished"
    return None if Tag.STUDY in run.data.tags else "without its tags"


def decode_final_run(run: Run) -> FinalRun:
    """Decode a finished final run."""
    tags, metrics, params = run.data.tags, run.data.metrics, run.data.params
    return FinalRun(
        run_id=run.info.run_id,
        study=tags[Tag.STUDY],
        optimizer=params["optimizer"],
        config=params["config"],
        seed=int(params["seed"]),
        outcome=tags[Tag.OUTCOME],
        paper_setting=tags.get(Tag.PAPER_SETTING) == "true",
        margin=float(tags.get(Tag.MARGIN, MARGIN)),
        params={name: value for name, value in params.items() if name not in ("optimizer", "config", "seed")},
        target=float(tags[Tag.TARGET]) if Tag.TARGET in tags else None,
        files=run.info.artifact_uri or "",
        finished_at=run.info.end_time / 1000 if run.info.end_time else None,
        provenance=read_provenance(tags),
        key=tags.get(Tag.KEY, ""),
        curvature_problem=tags.get(Tag.CURVATURE_PROBLEM, ""),
        trace_problem=tags.get(Tag.TRACE_PROBLEM, ""),
        **read_final_metrics(metrics, tags.get(Tag.VERDICT, "")),
    )
