"""What MLflow and a workspace tell of their studies, without running anything."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from optstudy.comparison.table import Comparison, compare
from optstudy.errors import UsageError, nearest
from optstudy.records.run import FinalRuns
from optstudy.records.search import summarise
from optstudy.tracking import Tracking


@dataclass(frozen=True)
class Read:
    """Some studies as they were read."""

    tracking: Tracking
    studies: tuple[str, ...]
    final: FinalRuns
    comparison: Comparison


def read_studies(tracking: Tracking, studies: Sequence[str] = (), optimizers: Sequence[str] = ()) -> Read:
    """Compare the final runs of some studies, by default of the one written last.

    Args:
        tracking: Where they are.
        studies: Their names.
        optimizers: Of which optimizers the comparison shows rows and pairs; by default of all.

    Raises:
        UsageError: If there is no such study or optimizer, or none at all.
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
    searches = [summarise(json.loads(data)) for data in tracking.search_files(chosen)]
    comparison = compare(final, chosen, tracking.predictions(final), searches)
    return Read(tracking, chosen, final, comparison.only(optimizers) if optimizers else comparison)


def _last_finished(tracking: Tracking, known: Sequence[str]) -> tuple[tuple[str, ...], FinalRuns]:
    """Read the study written last that has a finished run; where none has, the one written last."""
    for name in reversed(known):
        final = tracking.final_runs([name])
        if final.runs:
            return (name,), final
    return (known[-1],), tracking.final_runs([known[-1]])
