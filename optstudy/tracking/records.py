"""Runs as MLflow has them, read back as typed records."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from mlflow.entities import Run
from numpy.typing import NDArray


@dataclass(frozen=True)
class Spent:
    """What a run had spent when its test accuracy first reached its study's target."""

    epochs: float
    seconds: float
    gradient_work: float


@dataclass(frozen=True)
class Ending:
    """The curvature where a run ended; what was not measured is nan."""

    lambda_1: float
    lambda_2: float
    ratio: float
    ratio_low: float
    ratio_high: float
    verdict: str
    trace: float
    loss_rise: float  # at distance 1 along the first eigenvector


@dataclass(frozen=True)
class Predictions:
    """Classes of the test images, true and predicted, ``(N,)`` each."""

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: tuple[str, ...] = ()  # names in the order of the numbers; empty where they are not known

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are classified right."""
        found: NDArray[np.bool_] = self.labels == self.predicted
        return found


VERDICT = "optstudy.ratio_verdict"  # a tag
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
    seconds: float  # of training, by the clock, while other workers ran
    gradient_work: float
    margin: float  # of test accuracy, a fraction, inside which its study counts optimizers as equivalent
    params: dict[str, str]  # hyperparameters as MLflow returns them, strings
    target: float | None = None  # test accuracy, a fraction, fixed with the study; None where it had none
    reached: Spent | None = None  # None where the run never did
    ending: Ending | None = None  # None where no curvature was measured
    steps: int = 0  # that it took; 0 where that is not known
    step_seconds: float | None = (
        None  # of one step, timed while the other workers idled; None where it was not
    )
    files: str = ""  # URI of its artifacts
    separated: float | None = (
        None  # share of its last steps whose ratio was separated; None where none were followed
    )
    finished_at: float | None = None  # Unix time
    facts: dict[str, str] = field(default_factory=dict)  # versions, machine, commit, checksum of the data
    sources: dict[str, str] | None = None  # SHA-256 of the user's files; None where they were not recorded
    key: str = ""  # of everything that determines the run; "" where it is not known

    @property
    def pace_seconds(self) -> float:
        """Seconds of training at the pace of its timed steps, by the clock where none were timed."""
        return self.seconds if self.step_seconds is None else self.steps * self.step_seconds


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
    folder = local_folder(run.info.artifact_uri or "")
    lost = embedded and finished and writes_files and not (folder and folder.is_dir())
    key = run.data.tags.get("optstudy.key", "")
    return Known(run.info.run_id, key, finished and not lost, ended and not lost, lost)


def local_folder(uri: str) -> Path | None:
    """Return where the artifacts of a URI lie on this machine; None where a server or a bucket keeps them."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and parts.path else None


def exclusion_of(run: Run) -> str | None:
    """Say why a final run cannot be compared, if so."""
    outcome = run.data.tags.get("optstudy.outcome", "")
    if run.data.tags.get("optstudy.superseded") == "true":
        return "superseded"
    if run.info.status == "FAILED" or outcome == "failed":
        return "failed"
    if run.info.status != "FINISHED" or "final/test_accuracy_pct" not in run.data.metrics:
        return "unfinished"
    return None if "optstudy.study" in run.data.tags else "without its tags"


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
        train_accuracy=of_percent(metrics["final/train_accuracy_pct"]),
        test_accuracy=of_percent(metrics["final/test_accuracy_pct"]),
        paper_setting=tags.get("optstudy.paper_setting") == "true",
        seconds=metrics["final/seconds"],
        gradient_work=metrics["final/gradient_work"],
        margin=float(tags.get("optstudy.margin", MARGIN)),
        params={name: value for name, value in params.items() if name not in ("optimizer", "config", "seed")},
        target=float(tags["optstudy.target"]) if "optstudy.target" in tags else None,
        reached=_reached(metrics),
        ending=ending_of(metrics, tags.get(VERDICT, "")),
        steps=int(metrics.get("final/steps", 0)),
        step_seconds=metrics.get("final/step_seconds"),
        files=run.info.artifact_uri or "",
        separated=metrics.get("final/separated"),
        finished_at=run.info.end_time / 1000 if run.info.end_time else None,
        facts=_facts(tags),
        sources=_sources(tags.get("optstudy.sources", "")),
        key=tags.get("optstudy.key", ""),
    )


def to_percent(accuracy: float) -> float:
    """Write a fraction as metrics have it, since MLflow's pages show four digits; `of_percent` reads it."""
    return round(100 * accuracy, 9)


def of_percent(metric: float) -> float:
    """Return the fraction that a metric in percent stands for."""
    return round(metric / 100, 12)


def _sources(tag: str) -> dict[str, str] | None:
    try:
        return dict(json.loads(tag))
    except (ValueError, TypeError):
        return None  # not recorded, or a tag that was changed


def _facts(tags: Mapping[str, str]) -> dict[str, str]:
    prefixes = ("optstudy.version.", "optstudy.environment.")
    found = {
        name.removeprefix(prefix): value
        for prefix in prefixes
        for name, value in tags.items()
        if name.startswith(prefix)
    }
    return found | ({"data": tags["optstudy.data"]} if "optstudy.data" in tags else {})


def _reached(metrics: Mapping[str, float]) -> Spent | None:
    names = ("final/epochs_to_target", "final/seconds_to_target", "final/work_to_target")
    return Spent(*(metrics[name] for name in names)) if all(name in metrics for name in names) else None


def ending_of(metrics: Mapping[str, float], verdict: str) -> Ending | None:
    """Gather the metrics of the curvature where a run ended; None where it was not measured."""
    if "final/lambda_1" not in metrics:
        return None
    names = ("lambda_1", "lambda_2", "ratio", "ratio_low", "ratio_high", "trace", "loss_rise")
    numbers = {name: metrics.get(f"final/{name}", math.nan) for name in names}
    return Ending(**numbers, verdict=verdict or "unresolved")
