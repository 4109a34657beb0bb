"""Read the evidence of studies from MLflow: final runs, searches, and the files of each run."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from optstudy.errors import OptstudyError
from optstudy.optimizers import read_looks
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.forms import FormError, from_form, from_json
from optstudy.records.naming import sort_key
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, FinalRun, Predictions
from optstudy.records.search import SearchResult, read_search
from optstudy.tracking.decode import OTHER_SPECIFICATION
from optstudy.tracking.writer import Tracking

T = TypeVar("T")
_REMEDY = "delete the run in MLflow, and the command that trained it logs it again"


def read_evidence(tracking: Tracking, studies: Sequence[str], workspace: Path) -> Evidence:
    """Read what a comparison needs: final runs with their predictions, searches, and the looks of optimizers.

    Args:
        tracking: The MLflow store.
        studies: The studies, in the order of the comparison.
        workspace: Folder whose space files define the looks of optimizers.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    final_runs, excluded = tracking.final_runs(studies)
    runs = sorted(
        final_runs,
        key=lambda run: (studies.index(run.study), *sort_key(run.optimizer, run.config), run.seed),
    )
    searches, excluded_searches = read_searches(tracking, studies)
    if excluded_searches:
        excluded[f"{OTHER_SPECIFICATION}'s searches"] = excluded_searches
    looks = read_looks({run.optimizer for run in runs}, workspace, [search.space for search in searches])
    evidence = tuple(read_predictions(tracking, run) for run in runs)
    return Evidence(evidence, searches, looks, excluded, tuple(studies))


def read_files(tracking: Tracking, evidence: Evidence) -> Evidence:
    """Read the runs' other files, which figures and reports need.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    return replace(evidence, runs=tuple(read_run(tracking, final) for final in evidence.runs))


def read_searches(tracking: Tracking, studies: Sequence[str]) -> tuple[tuple[SearchResult, ...], int]:
    """Read the finished searches of some studies, in the order of the comparison, and the number of those excluded.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    searches: list[SearchResult] = []
    excluded = 0
    for study in studies:
        where = f"search.json of a search of study {study!r}"
        files, excluded_files = tracking.search_files(study)
        excluded += excluded_files
        study_searches = [read_search(from_json(dict[str, Any], data, where), where) for data in files]
        searches += sorted(study_searches, key=lambda search: sort_key(search.optimizer))
    return tuple(searches), excluded


def read_predictions(tracking: Tracking, run: FinalRun) -> RunEvidence:
    """Return a final run with its predictions.

    Raises:
        OptstudyError: If they cannot be read.
    """
    predictions = _read(tracking, run, "predictions.npz", Predictions.from_bytes)
    return RunEvidence(run, predictions=predictions, lost=tracking.lacks_files(run))


def read_run(tracking: Tracking, final: RunEvidence) -> RunEvidence:
    """Return a final run with all its files except the weights.

    Raises:
        OptstudyError: If a file cannot be read.
    """

    def read_json(kind: type[T], name: str) -> T | None:
        return _read(tracking, final.run, name, functools.partial(from_json, kind))

    study = read_json(dict[str, Any], "study.json")
    where = f"study.json of run {final.run.run_id}: specification"
    return replace(
        final,
        plan=read_json(Plan, "plan.json"),
        epochs=read_json(tuple[EpochRecord, ...], "epochs.json") or (),
        trace=_read(tracking, final.run, "eigen.npz", EigenTrace.from_bytes),
        curvature=_read(tracking, final.run, "analysis.npz", CurvatureResult.from_bytes),
        specification=None if study is None else from_form(dict[str, Any], study.get("specification"), where),
    )


def _read(tracking: Tracking, run: FinalRun, name: str, decode: Callable[[bytes, str], T]) -> T | None:
    """Read and decode a run's file; errors name the file."""
    data = tracking.find_file(run, name)
    try:
        return None if data is None else decode(data, f"{name} of run {run.run_id}")
    except FormError as error:
        raise OptstudyError(f"{error}; {_REMEDY}") from error
