"""Read the evidence of finished studies from MLflow, to compare them without running anything."""

from collections.abc import Sequence
from pathlib import Path

from optstudy.errors import UsageError, nearest
from optstudy.records.evidence import Evidence
from optstudy.records.run import FinalRuns
from optstudy.tracking import Tracking
from optstudy.tracking.evidence import read_evidence


def read_studies(
    tracking: Tracking,
    studies: Sequence[str] = (),
    *,
    workspace: Path = Path(),  # it is immutable
) -> Evidence:
    """Read what the comparison of some studies takes, by default of the one written last.

    Args:
        tracking: Where they are.
        studies: Their names.
        workspace: Folder whose space files say how optimizers look.

    Raises:
        UsageError: If there is no such study, or none at all.
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
    return read_evidence(tracking, chosen, final, workspace)


def check_optimizers(evidence: Evidence, optimizers: Sequence[str]) -> None:
    """Check that optimizers have final runs.

    Raises:
        UsageError: If one has none.
    """
    there = sorted({one.run.optimizer for one in evidence.runs})
    for name in optimizers:
        if name not in there:
            raise UsageError(
                f"no final runs of {name!r} in {', '.join(evidence.studies)}{nearest(name, there)};"
                f" there are {', '.join(there)}"
            )


def _last_finished(tracking: Tracking, known: Sequence[str]) -> tuple[tuple[str, ...], FinalRuns]:
    """Read the study written last that has a finished run; where none has, the one written last."""
    for name in reversed(known):
        final = tracking.final_runs([name])
        if final.runs:
            return (name,), final
    return (known[-1],), tracking.final_runs([known[-1]])
