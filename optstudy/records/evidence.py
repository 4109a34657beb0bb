"""The recorded results of some studies: runs with their files, and searches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optstudy.records.checksums import Damage
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.look import Looks
from optstudy.records.naming import RowKey
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, FinalRun, Predictions
from optstudy.records.search import SearchResult

_NAMED = 3  # runs in a sentence


@dataclass(frozen=True)
class RunEvidence:
    """One finished final run with the data behind its figures."""

    run: FinalRun
    plan: Plan | None = None  # None if it was not recorded, or not read
    epochs: tuple[EpochRecord, ...] = ()
    predictions: Predictions | None = None
    trace: EigenTrace | None = None  # at its last steps; None if not measured
    curvature: CurvatureResult | None = None  # at its end; None if not measured
    specification: Mapping[str, Any] | None = None  # of its study; None if not recorded
    lost: bool = False  # its files were recorded, but are gone


@dataclass(frozen=True)
class Evidence:
    """The final runs of some studies and their finished searches, in the order of the comparison's rows."""

    runs: tuple[RunEvidence, ...]
    searches: tuple[SearchResult, ...] = ()
    looks: Looks = field(default_factory=Looks)
    # Number of runs left out, by reason; damaged ones, too.
    excluded: dict[str, int] = field(default_factory=dict)
    studies: tuple[str, ...] = ()  # in the order of the comparison; others follow by name
    damaged: tuple[Damage, ...] = ()  # runs and searches left out, since their record is damaged
    unchecked: int = 0  # number of runs and searches that were logged before there were checksums

    def rows(self) -> dict[RowKey, list[RunEvidence]]:
        """The runs of each row of the comparison, seeds in order."""
        rows: dict[RowKey, list[RunEvidence]] = {}
        for final in self.runs:
            rows.setdefault(final.run.id.row, []).append(final)
        return {key: sorted(row, key=lambda final: final.run.seed) for key, row in rows.items()}

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about what is damaged, lost or unchecked; empty if nothing is."""
        damaged = (
            f"{damage.subject} is left out: {damage.problem}; {damage.remedy}" for damage in self.damaged
        )
        return (*damaged, *filter(None, [self.lost_files, unchecked_notice(self.unchecked)]))

    @property
    def lost_files(self) -> str | None:
        """A sentence about runs whose files are gone; None if there are none."""
        lost = [str(final.run.id) for final in self.runs if final.lost]
        if not lost:
            return None
        runs, others = f"{len(lost)} finished run{'s' * (len(lost) > 1)}", ", ..." * (len(lost) > _NAMED)
        return (
            f"mlruns/artifacts lacks the files of {runs} ({', '.join(lost[:_NAMED])}{others});"
            " the command that trained the runs restores them"
        )

    def of_studies(self, studies: Sequence[str]) -> "Evidence":
        """Return only the runs and searches of some studies."""
        return replace(
            self,
            runs=tuple(final for final in self.runs if final.run.study in studies),
            searches=tuple(search for search in self.searches if search.study in studies),
            studies=tuple(studies),
        )


def unchecked_notice(count: int) -> str | None:
    """Return a sentence about ``count`` runs and searches without checksums; None if there are none."""
    if not count:
        return None
    were = "finished run or search was" if count == 1 else "finished runs and searches were"
    return f"{count} {were} logged before there were checksums, so damage may go unnoticed"
