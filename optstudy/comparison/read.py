"""Read the evidence of finished studies from MLflow, to compare them without running anything."""

from collections.abc import Sequence
from pathlib import Path

from optstudy.errors import OptstudyError, UsageError, suggestion
from optstudy.records.evidence import Evidence
from optstudy.tracking import Tracking
from optstudy.tracking.evidence import read_evidence


def read_studies(
    tracking: Tracking,
    studies: Sequence[str] = (),
    *,
    workspace: Path = Path(),
) -> Evidence:
    """Read the evidence for a comparison of studies, by default the latest with a finished run.

    Args:
        tracking: The MLflow store.
        studies: Names of studies.
        workspace: Folder whose space files define the looks of optimizers.

    Raises:
        UsageError: If a study does not exist, or there are no studies.
        OptstudyError: If the store cannot be read, or all finished runs are damaged.
    """
    known = tracking.studies()
    tracking.check_not_deleted([name for name in studies if name not in known])
    if not known:
        tracking.check_not_deleted(tracking.deleted_studies())
        raise UsageError(f"{tracking.shown_uri} has no final runs yet; run: optstudy study --preset quick")
    for name in studies:
        if name not in known:
            raise UsageError(
                f"no study {name!r} has final runs{suggestion(name, known)}; there are {', '.join(known)}"
            )
    evidence = _read(tracking, tuple(dict.fromkeys(studies)), known, workspace)
    check_undamaged(evidence)
    return evidence


def _read(tracking: Tracking, studies: Sequence[str], known: Sequence[str], workspace: Path) -> Evidence:
    """Read the evidence of some studies, by default of the latest of the known ones with a finished run."""
    if studies:
        return read_evidence(tracking, studies, workspace)
    latest_first = (read_evidence(tracking, [name], workspace) for name in reversed(known))
    latest_finished = next((found for found in latest_first if found.runs or found.damaged), None)
    return latest_finished or read_evidence(tracking, known[-1:], workspace)


def check_undamaged(evidence: Evidence) -> None:
    """Check that a finished run is left if some are damaged.

    Raises:
        OptstudyError: If none is.
    """
    if evidence.damaged and not evidence.runs:
        first, *others = evidence.damaged
        more = f" (and {len(others)} more)" if others else ""
        raise OptstudyError(f"no finished run of {', '.join(evidence.studies)} is undamaged: {first}{more}")


def check_optimizers(evidence: Evidence, optimizers: Sequence[str]) -> None:
    """Check that optimizers have final runs.

    Raises:
        UsageError: If an optimizer has no final runs.
    """
    known = sorted({final.run.optimizer for final in evidence.runs})
    for name in optimizers:
        if name not in known:
            raise UsageError(
                f"no final runs of {name!r} in {', '.join(evidence.studies)}{suggestion(name, known)};"
                f" there are {', '.join(known)}"
            )
