"""What the runs of some studies left behind, as figures and reports take it."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optstudy.analysis import Analysis
from optstudy.eigentrace import EigenTrace
from optstudy.optimizers import Space
from optstudy.search import Finalist, Searched, Trial
from optstudy.table import order_of
from optstudy.tracking import FinalRun, FinalRuns, Predictions, Tracking
from optstudy.training import EpochRecord, Plan


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
        """Serialise; `from_json` gives back the same."""
        return json.dumps(dataclasses.asdict(self), indent=1, default=str).encode()

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
    """
    predictions = tracking.predictions(final)
    runs = [_run(tracking, run, predictions.get(run.run_id)) for run in final.runs]
    searches = [SearchEvidence.from_json(data) for data in tracking.search_files(studies)]
    places = {study: place for place, study in enumerate(studies)}
    return Evidence(
        tuple(sorted(runs, key=lambda one: (places[one.run.study], *_place(one.run), one.run.seed))),
        tuple(sorted(searches, key=lambda one: (places[one.study], order_of(one.searched.optimizer)))),
    )


def _place(run: FinalRun) -> tuple[Any, ...]:
    return order_of(run.optimizer, run.config)


def _run(tracking: Tracking, run: FinalRun, predictions: Predictions | None) -> RunEvidence:
    plan, epochs, trace, analysis = (
        tracking.file_of(run, name) for name in ("plan.json", "epochs.json", "eigen.npz", "analysis.npz")
    )
    return RunEvidence(
        run,
        Plan.from_dict(json.loads(plan)) if plan else None,
        tuple(EpochRecord(**record) for record in json.loads(epochs)) if epochs else (),
        predictions,
        EigenTrace.from_bytes(trace) if trace else None,
        Analysis.from_bytes(analysis) if analysis else None,
    )


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
