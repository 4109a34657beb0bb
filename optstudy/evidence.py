"""What the runs of some studies left behind, as figures and reports take it."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

from optstudy.analysis import Analysis
from optstudy.eigentrace import EigenTrace
from optstudy.errors import OptstudyError
from optstudy.optimizers import Space
from optstudy.search import Finalist, Searched, Trial
from optstudy.table import order_of
from optstudy.tracking import FinalRun, FinalRuns, Predictions, Tracking
from optstudy.training import EpochRecord, Plan

T = TypeVar("T")


@dataclass(frozen=True)
class RunEvidence:
    """One finished final run with the data behind its figures."""

    run: FinalRun
    plan: Plan | None  # None of a run that was logged before runs kept theirs
    epochs: tuple[EpochRecord, ...]
    predictions: Predictions | None
    trace: EigenTrace | None  # along its last steps; None where that was not measured
    analysis: Analysis | None  # of where it ended, likewise


@dataclass(frozen=True)
class SearchEvidence:
    """One finished search."""

    study: str
    searched: Searched
    space: Space
    settings: dict[str, Any]  # the keys of the specification that govern tuning, and the study's seed

    def to_json(self) -> bytes:
        """Serialise; `from_json` gives back the same, but of the space's file its name alone."""
        space = dataclasses.replace(self.space, source=Path(self.space.source.name))  # not where it lies
        return json.dumps(
            dataclasses.asdict(dataclasses.replace(self, space=space)), indent=1, default=str
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "SearchEvidence":
        """Read what `to_json` wrote."""
        content = json.loads(data)
        space = Space.from_dict(content["space"])
        return cls(content["study"], _searched(content["searched"]), space, content["settings"])


@dataclass(frozen=True)
class Evidence:
    """All final runs of some studies, and their searches, each in the order of the comparison's rows."""

    runs: tuple[RunEvidence, ...]
    searches: tuple[SearchEvidence, ...]

    def rows(self) -> dict[tuple[str, str, str], list[RunEvidence]]:
        """The runs by study, optimizer and configuration, seeds in order."""
        found: dict[tuple[str, str, str], list[RunEvidence]] = {}
        for one in self.runs:
            found.setdefault((one.run.study, one.run.optimizer, one.run.config), []).append(one)
        return {names: sorted(row, key=lambda one: one.run.seed) for names, row in found.items()}


def read_evidence(tracking: Tracking, final: FinalRuns, studies: Sequence[str]) -> Evidence:
    """Read what final runs and the searches of their studies left in MLflow.

    Args:
        tracking: Where they are.
        final: The runs.
        studies: The studies, in the order of the comparison.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    predictions = tracking.predictions(final)
    runs = [read_run(tracking, run, predictions.get(run.run_id)) for run in final.runs]
    searches = [
        _made(SearchEvidence.from_json, data, f"search.json of a search of study {study!r}")
        for study in studies
        for data in tracking.search_files([study])
    ]
    places = {study: place for place, study in enumerate(studies)}
    return Evidence(
        tuple(sorted(runs, key=lambda one: (places[one.run.study], *_place(one.run), one.run.seed))),
        tuple(sorted(searches, key=lambda one: (places[one.study], order_of(one.searched.optimizer)))),
    )


def _place(run: FinalRun) -> tuple[Any, ...]:
    return order_of(run.optimizer, run.config)


def read_run(tracking: Tracking, run: FinalRun, predictions: Predictions | None) -> RunEvidence:
    """Read what a final run left in MLflow, its predictions apart.

    Raises:
        OptstudyError: If a file cannot be read.
    """

    def kept(name: str, make: Callable[[bytes], T]) -> T | None:
        data = tracking.file_of(run, name)
        return None if data is None else _made(make, data, f"{name} of run {run.run_id}")

    return RunEvidence(
        run,
        kept("plan.json", lambda data: Plan.from_dict(json.loads(data))),
        kept("epochs.json", _epochs) or (),
        predictions,
        kept("eigen.npz", EigenTrace.from_bytes),
        kept("analysis.npz", Analysis.from_bytes),
    )


def _made(make: Callable[[bytes], T], data: bytes, what: str) -> T:
    """Read a file, or say which one cannot be read."""
    try:
        return make(data)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise OptstudyError(f"{what} is damaged ({type(error).__name__}: {reason})") from error


def _epochs(data: bytes) -> tuple[EpochRecord, ...]:
    return tuple(EpochRecord(**record) for record in json.loads(data))


def _searched(content: Mapping[str, Any]) -> Searched:
    trials = tuple(_trial(trial) for trial in content["trials"])
    finalists = [
        Finalist(**{**one, "seeds": tuple(one["seeds"]), "scores": tuple(one["scores"])})
        for one in content["finalists"]
    ]
    best = _trial(content["best"]) if content["best"] else None
    return Searched(**{**content, "trials": trials, "best": best, "finalists": tuple(finalists)})


def _trial(content: Mapping[str, Any]) -> Trial:
    return Trial(**{**content, "scores": tuple(content["scores"])})


def only(evidence: Evidence, studies: Sequence[str]) -> Evidence:
    """Leave out the runs and searches of other studies."""
    return Evidence(
        tuple(one for one in evidence.runs if one.run.study in studies),
        tuple(one for one in evidence.searches if one.study in studies),
    )
