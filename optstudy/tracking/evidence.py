"""Read the evidence of studies from MLflow: final runs, searches, and the files of each run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from optstudy.errors import OptstudyError
from optstudy.optimizers import read_looks
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.forms import from_form, from_json
from optstudy.records.naming import sort_key
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, FinalRun, FinalRuns, Predictions
from optstudy.records.search import SearchResult, read_search
from optstudy.tracking.writer import Tracking

T = TypeVar("T")


def read_evidence(tracking: Tracking, studies: Sequence[str], final: FinalRuns, workspace: Path) -> Evidence:
    """Read what a comparison takes beside final runs: their predictions, the searches, and how optimizers look.

    Args:
        tracking: Where they are.
        studies: The studies, in the order of the comparison.
        final: Their runs.
        workspace: Folder whose space files say how optimizers look.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    predictions, searches = tracking.predictions(final), tuple(read_searches(tracking, studies))
    runs = sorted(
        final.runs,
        key=lambda run: (studies.index(run.study), *sort_key(run.optimizer, run.config), run.seed),
    )
    return Evidence(
        tuple(RunEvidence(run, predictions=predictions.get(run.run_id)) for run in runs),
        searches,
        read_looks({run.optimizer for run in runs}, workspace, [one.space for one in searches]),
        dict(final.excluded),
        tuple(studies),
    )


def read_files(tracking: Tracking, evidence: Evidence) -> Evidence:
    """Read the other files of the runs, on which figures and reports rest.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    return replace(
        evidence, runs=tuple(read_run(tracking, one.run, one.predictions) for one in evidence.runs)
    )


def read_searches(tracking: Tracking, studies: Sequence[str]) -> list[SearchResult]:
    """Read the finished searches of some studies, in the order of the comparison.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    found: list[SearchResult] = []
    for study in studies:
        where = f"search.json of a search of study {study!r}"
        files = tracking.search_files(study)
        read = [read_search(from_json(dict[str, Any], data, where), where) for data in files]
        found += sorted(read, key=lambda one: sort_key(one.optimizer))
    return found


def read_run(tracking: Tracking, run: FinalRun, predictions: Predictions | None) -> RunEvidence:
    """Read what a final run left in MLflow, its predictions apart.

    Raises:
        OptstudyError: If a file cannot be read.
    """

    def kept(name: str, make: Callable[[bytes], T]) -> T | None:
        data = tracking.file_of(run, name)
        return None if data is None else _made(make, data, where(name))

    def where(name: str) -> str:
        return f"{name} of run {run.run_id}"

    return RunEvidence(
        run,
        kept("plan.json", lambda data: from_json(Plan, data, where("plan.json"))),
        kept("epochs.json", lambda data: from_json(tuple[EpochRecord, ...], data, where("epochs.json")))
        or (),
        predictions,
        kept("eigen.npz", EigenTrace.from_bytes),
        kept("analysis.npz", CurvatureResult.from_bytes),
        kept("study.json", lambda data: _specification(data, where("study.json"))),
    )


def _specification(data: bytes, where: str) -> dict[str, Any]:
    content = from_json(dict[str, Any], data, where)
    return from_form(dict[str, Any], content.get("specification"), f"{where}: specification")


def _made(make: Callable[[bytes], T], data: bytes, what: str) -> T:
    """Read a file, or say which one cannot be read."""
    try:
        return make(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise OptstudyError(f"{what} is damaged ({type(error).__name__}: {reason})") from error
