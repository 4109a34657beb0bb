"""Reads studies from MLflow and compares them, without running anything."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optstudy.comparison.table import Comparison, compare
from optstudy.errors import UsageError, nearest
from optstudy.records.evidence import Evidence
from optstudy.records.run import FinalRuns
from optstudy.tracking import Tracking
from optstudy.tracking.evidence import read_evidence


@dataclass(frozen=True)
class ReadStudies:
    """Some studies as they were read."""

    studies: tuple[str, ...]
    evidence: Evidence  # what the comparison rests on; `read_files` adds to it what figures take
    comparison: Comparison


def read_studies(
    tracking: Tracking,
    studies: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    *,
    workspace: Path = Path(),  # it is immutable
) -> ReadStudies:
    """Compare the final runs of some studies, by default of the one written last.

    Args:
        tracking: Where they are.
        studies: Their names.
        optimizers: Of which optimizers the comparison shows rows and pairs; by default of all.
        workspace: Folder whose space files say how optimizers look.

    Raises:
        UsageError: If there is no such study or optimizer, or none at all.
        OptstudyError: If a file cannot be read.
    """
    known = tracking.studies()
    if not known:
        raise UsageError(f"{tracking.shown_uri} has no final runs yet; run: optstudy study --preset quick")
    for name in studies:
        if name not in known:
            raise UsageError(
                f"no study {name!r} has final runs{nearest(name, known)}; there are {', '.join(known)}"
            )
    chosen = tuple(dict.fromkeys(studies))
    if chosen:
        final = tracking.final_runs(chosen)
    else:
        chosen, final = _last_finished(tracking, known)
    there = sorted({run.optimizer for run in final.runs})
    for name in optimizers:
        if name not in there:
            raise UsageError(
                f"no final runs of {name!r} in {', '.join(chosen)}{nearest(name, there)}; there are {', '.join(there)}"
            )
    read = _compared(tracking, chosen, final, workspace)
    return replace(read, comparison=read.comparison.only(optimizers)) if optimizers else read


def read_study(tracking: Tracking, study: str, workspace: Path) -> ReadStudies:
    """Compare the final runs of one study, which may have none yet; a workspace says how optimizers look.

    Raises:
        OptstudyError: If a file cannot be read.
    """
    return _compared(tracking, (study,), tracking.final_runs([study]), workspace)


def _compared(tracking: Tracking, studies: tuple[str, ...], final: FinalRuns, workspace: Path) -> ReadStudies:
    evidence = read_evidence(tracking, studies, final, workspace)
    return ReadStudies(studies, evidence, compare(evidence, studies))


def _last_finished(tracking: Tracking, known: Sequence[str]) -> tuple[tuple[str, ...], FinalRuns]:
    """Read the study written last that has a finished run; where none has, the one written last."""
    for name in reversed(known):
        final = tracking.final_runs([name])
        if final.runs:
            return (name,), final
    return (known[-1],), tracking.final_runs([known[-1]])
