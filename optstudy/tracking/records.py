"""Runs as MLflow has them, read back as typed records."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.entities import Run

MARGIN = 0.001  # of runs that were logged before studies had one


@dataclass(frozen=True)
class FinalRun:
    """One finished final run, as read back from MLflow."""

    run_id: str
    study: str
    optimizer: str
    config: str  # best, paper, default
    seed: int
    outcome: str  # completed or diverged
    train_accuracy: float  # fraction, exact sweep over the training images
    test_accuracy: float  # fraction
    paper_setting: bool  # model and data are the paper's, so its Table I may stand beside ours
    seconds: float
    gradient_work: float
    margin: float  # of test accuracy, a fraction, inside which its study counts optimizers as equivalent
    params: dict[str, str]  # hyperparameters as MLflow returns them, strings


@dataclass(frozen=True)
class FinalRuns:
    """The final runs of some studies, and what was left out."""

    runs: tuple[FinalRun, ...]
    excluded: dict[str, int]  # why -> how many runs: unfinished, failed, superseded


@dataclass(frozen=True)
class Known:
    """A run that MLflow already has."""

    run_id: str
    key: str  # of everything that determines the run
    finished: bool
    ended: bool  # finished, or a trial that was pruned or failed
    lost: bool = False  # it was finished, and its files are gone: it is to be written again


def known_of(run: Run, *, embedded: bool) -> Known:
    """Say what MLflow already has of a run; what a server keeps is the server's to look after."""
    finished = run.info.status == "FINISHED"
    ended = finished or run.data.tags.get("optstudy.outcome") in ("pruned", "failed")
    writes_files = run.data.tags.get("optstudy.kind") in ("search", "final")
    lost = embedded and finished and writes_files and not _folder(run).is_dir()
    key = run.data.tags.get("optstudy.key", "")
    return Known(run.info.run_id, key, finished and not lost, ended and not lost, lost)


def _folder(run: Run) -> Path:
    return Path(unquote(urlsplit(run.info.artifact_uri or "").path))


def exclusion_of(run: Run) -> str | None:
    """Say why a final run cannot be compared, if so."""
    outcome = run.data.tags.get("optstudy.outcome", "")
    if run.data.tags.get("optstudy.superseded") == "true":
        return "superseded"
    if run.info.status == "FAILED" or outcome == "failed":
        return "failed"
    if run.info.status != "FINISHED" or "final/test_accuracy_pct" not in run.data.metrics:
        return "unfinished"
    return None


def final_run_of(run: Run) -> FinalRun:
    """Read a finished final run."""
    tags, metrics, params = run.data.tags, run.data.metrics, run.data.params
    return FinalRun(
        run_id=run.info.run_id,
        study=tags["optstudy.study"],
        optimizer=params["optimizer"],
        config=params["config"],
        seed=int(params["seed"]),
        outcome=tags["optstudy.outcome"],
        train_accuracy=round(metrics["final/train_accuracy_pct"] / 100, 12),
        test_accuracy=round(metrics["final/test_accuracy_pct"] / 100, 12),
        paper_setting=tags.get("optstudy.paper_setting") == "true",
        seconds=metrics["final/seconds"],
        gradient_work=metrics["final/gradient_work"],
        margin=float(tags.get("optstudy.margin", MARGIN)),
        params={name: value for name, value in params.items() if name not in ("optimizer", "config", "seed")},
    )
