"""Read the evidence of studies from MLflow: final runs, searches, and the files of each run."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from optstudy.optimizers import read_looks
from optstudy.records.checksums import Damage, DamagedError
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.forms import FormError, from_form, from_json
from optstudy.records.naming import sort_key
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, FinalRun, Predictions
from optstudy.records.search import SearchResult, read_search
from optstudy.tracking.decode import LOGGED_AGAIN, OTHER_SPECIFICATION
from optstudy.tracking.writer import Tracking

T = TypeVar("T")
U = TypeVar("U")
PREDICTIONS = "predictions.npz"
OTHER_DATA = ("epochs.json", "plan.json", "study.json", "eigen.npz", "analysis.npz")


def read_evidence(tracking: Tracking, studies: Sequence[str], workspace: Path) -> Evidence:
    """Read what a comparison needs: final runs with their predictions, searches, and the looks of optimizers.

    Damaged runs and searches are left out. In the embedded store that includes runs with other damaged data files.

    Args:
        tracking: The MLflow store.
        studies: The studies, in the order of the comparison.
        workspace: Folder whose space files define the looks of optimizers.

    Raises:
        OptstudyError: If the store cannot be read.
    """
    final_runs, excluded, damaged = tracking.final_runs(studies)
    runs = sorted(
        final_runs,
        key=lambda run: (studies.index(run.study), *sort_key(run.optimizer, run.config), run.seed),
    )
    evidence, damaged_files = _undamaged(lambda run: _check_and_read(tracking, run), runs)
    found = read_searches(tracking, studies)
    counts = {
        f"{OTHER_SPECIFICATION}'s searches": found.excluded,
        "damaged": len(damaged) + len(damaged_files),
        "damaged searches": len(found.damaged),
    }
    excluded |= {reason: count for reason, count in counts.items() if count}
    looks = read_looks(
        {run.run.optimizer for run in evidence}, workspace, [search.space for search in found.searches]
    )
    unchecked = found.unchecked + sum(run.run.checksums is None for run in evidence)
    return Evidence(
        tuple(evidence),
        found.searches,
        looks,
        excluded,
        tuple(studies),
        (*damaged, *damaged_files, *found.damaged),
        unchecked,
    )


def read_files(tracking: Tracking, evidence: Evidence) -> Evidence:
    """Read the runs' other files, which figures and reports need; runs with damaged files are left out.

    In the embedded store all recorded files are checked, also weights and figures, which are not read.

    Raises:
        OptstudyError: If the store cannot be read.
    """
    runs, damaged = _undamaged(lambda final: _check_and_read_all(tracking, final), evidence.runs)
    if not damaged:
        return replace(evidence, runs=tuple(runs))
    excluded = {**evidence.excluded, "damaged": evidence.excluded.get("damaged", 0) + len(damaged)}
    return replace(evidence, runs=tuple(runs), excluded=excluded, damaged=(*evidence.damaged, *damaged))


@dataclass(frozen=True)
class Searches:
    """The finished searches of some studies."""

    searches: tuple[SearchResult, ...]  # in the order of the comparison
    excluded: int  # number of searches of another specification
    damaged: tuple[Damage, ...]
    unchecked: int  # number of searches that were logged before there were checksums


def read_searches(tracking: Tracking, studies: Sequence[str]) -> Searches:
    """Read the finished searches of some studies, without damaged ones."""
    stored = [tracking.search_files(study) for study in studies]
    searches: list[SearchResult] = []
    damaged = [damage for found in stored for damage in found.damaged]
    for found in stored:
        results, damaged_files = _undamaged(_read_search, found.files.items())
        searches += sorted(results, key=lambda search: sort_key(search.optimizer))
        damaged += damaged_files
    excluded, unchecked = sum(found.excluded for found in stored), sum(found.unchecked for found in stored)
    return Searches(tuple(searches), excluded, tuple(damaged), unchecked)


def read_predictions(tracking: Tracking, run: FinalRun) -> RunEvidence:
    """Return a final run with its predictions.

    Raises:
        DamagedError: If they are damaged.
    """
    predictions = _read(tracking, run, PREDICTIONS, Predictions.from_bytes)
    lost = tracking.lacks_files(run) or (predictions is None and PREDICTIONS in (run.checksums or {}))
    return RunEvidence(run, predictions=predictions, lost=lost)


def read_run(tracking: Tracking, final: RunEvidence) -> RunEvidence:
    """Return a final run with all its files except the weights.

    Raises:
        DamagedError: If a file is damaged.
    """

    def read_json(kind: type[T], name: str) -> T | None:
        return _read(tracking, final.run, name, functools.partial(from_json, kind))

    return replace(
        final,
        plan=read_json(Plan, "plan.json"),
        epochs=read_json(tuple[EpochRecord, ...], "epochs.json") or (),
        trace=_read(tracking, final.run, "eigen.npz", EigenTrace.from_bytes),
        curvature=_read(tracking, final.run, "analysis.npz", CurvatureResult.from_bytes),
        specification=_read(tracking, final.run, "study.json", _specification),
    )


def _specification(data: bytes, where: str) -> dict[str, Any]:
    content = from_json(dict[str, Any], data, where)
    return from_form(dict[str, Any], content.get("specification"), f"{where}: specification")


def _check_and_read(tracking: Tracking, run: FinalRun) -> RunEvidence:
    complete = tracking.check_files(run, OTHER_DATA)
    evidence = read_predictions(tracking, run)
    return evidence if complete else replace(evidence, lost=True)


def _check_and_read_all(tracking: Tracking, final: RunEvidence) -> RunEvidence:
    complete = tracking.check_files(final.run)
    return read_run(tracking, final if complete else replace(final, lost=True))


def _read_search(file: tuple[str, bytes]) -> SearchResult:
    (subject, data), where = file, "its file search.json"
    try:
        return read_search(from_json(dict[str, Any], data, where), where)
    except FormError as error:
        raise DamagedError(Damage(subject, str(error), LOGGED_AGAIN)) from error


def _undamaged(read: Callable[[U], T], items: Iterable[U]) -> tuple[list[T], list[Damage]]:
    """Read the items that are not damaged; return the results and the damage of the others."""
    results: list[T] = []
    damaged: list[Damage] = []
    for item in items:
        try:
            results.append(read(item))
        except DamagedError as error:
            damaged.append(error.damage)
    return results, damaged


def _read(tracking: Tracking, run: FinalRun, name: str, decode: Callable[[bytes, str], T]) -> T | None:
    """Read and decode a run's file; a damaged one is a DamagedError."""
    data = tracking.find_file(run, name)
    try:
        return None if data is None else decode(data, f"its file {name}")
    except FormError as error:
        raise DamagedError(Damage(str(run.id), str(error), LOGGED_AGAIN, run.run_id)) from error
