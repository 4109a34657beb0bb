"""What the runs of some studies left behind, as figures and reports take it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from optstudy.errors import OptstudyError
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.forms import from_form, from_json
from optstudy.records.look import Looks
from optstudy.records.naming import order_of
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, FinalRun, FinalRuns, Predictions
from optstudy.records.search import SearchResult, read_search
from optstudy.tracking.writer import Tracking

T = TypeVar("T")


def read_evidence(
    tracking: Tracking, final: FinalRuns, studies: Sequence[str], looks: Looks | None = None
) -> Evidence:
    """Read what final runs and the searches of their studies left in MLflow.

    Args:
        tracking: Where they are.
        final: The runs.
        studies: The studies, in the order of the comparison.
        looks: Of the optimizers; by default their names are their labels.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    predictions = tracking.predictions(final)
    runs = [read_run(tracking, run, predictions.get(run.run_id)) for run in final.runs]
    places = {study: place for place, study in enumerate(studies)}
    return Evidence(
        tuple(sorted(runs, key=lambda one: (places[one.run.study], *_place(one.run), one.run.seed))),
        tuple(read_searches(tracking, studies)),
        Looks() if looks is None else looks,
        final.excluded,
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
        found += sorted(read, key=lambda one: order_of(one.optimizer))
    return found


def _place(run: FinalRun) -> tuple[Any, ...]:
    return order_of(run.optimizer, run.config)


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
