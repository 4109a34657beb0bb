"""Comparisons read back from MLflow alone, with no need of the study's files."""

from collections.abc import Sequence
from pathlib import Path

from optstudy.errors import UsageError
from optstudy.references import nearest
from optstudy.table import Comparison, compare
from optstudy.tracking import open_tracking


def read_comparison(
    studies: Sequence[str], workspace: Path, tracking_uri: str | None
) -> tuple[Comparison, tuple[str, ...]]:
    """Compare the final runs of some studies, by default of the one written last.

    Returns:
        The comparison, and the names of the studies in it.

    Raises:
        UsageError: If there is no such study, or none at all.
    """
    tracking, _ = open_tracking(workspace, tracking_uri)
    known = tracking.studies()
    if not known:
        raise UsageError(f"{tracking.shown_uri} has no final runs yet; run: optstudy study --preset quick")
    for name in studies:
        if name not in known:
            raise UsageError(f"no study {name!r} has final runs{nearest(name, known)}; there are {', '.join(known)}")
    chosen = tuple(dict.fromkeys(studies)) or (known[-1],)
    return compare(tracking.final_runs(chosen)), chosen
