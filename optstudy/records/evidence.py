"""The recorded results of some studies: runs with their files, and searches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.look import Looks
from optstudy.records.naming import RowKey
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, FinalRun, Predictions
from optstudy.records.search import SearchResult


@dataclass(frozen=True)
class RunEvidence:
    """One finished final run with the data behind its figures."""

    run: FinalRun
    plan: Plan | None = None  # None if it was not recorded, or not read
    epochs: tuple[EpochRecord, ...] = ()
    predictions: Predictions | None = None
    trace: EigenTrace | None = None  # at its last steps; None if not measured
    curvature: CurvatureResult | None = None  # at its end; None if not measured
    specification: Mapping[str, Any] | None = None  # keys of its study; None if not recorded


@dataclass(frozen=True)
class Evidence:
    """The final runs of some studies and their finished searches, in the order of the comparison's rows."""

    runs: tuple[RunEvidence, ...]
    searches: tuple[SearchResult, ...] = ()
    looks: Looks = field(default_factory=Looks)
    excluded: dict[str, int] = field(default_factory=dict)  # number of runs left out, by reason
    studies: tuple[str, ...] = ()  # in the order of the comparison; others follow by name

    def rows(self) -> dict[RowKey, list[RunEvidence]]:
        """The runs of each row of the comparison, seeds in order."""
        rows: dict[RowKey, list[RunEvidence]] = {}
        for one in self.runs:
            rows.setdefault(one.run.id.row, []).append(one)
        return {key: sorted(row, key=lambda one: one.run.seed) for key, row in rows.items()}

    def of_studies(self, studies: Sequence[str]) -> "Evidence":
        """Return the runs and searches of some studies alone."""
        return replace(
            self,
            runs=tuple(one for one in self.runs if one.run.study in studies),
            searches=tuple(one for one in self.searches if one.study in studies),
            studies=tuple(studies),
        )
