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
from optstudy.tracking import FinalRun, Predictions
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
