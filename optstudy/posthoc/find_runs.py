"""Find final runs by name, ID or study, and read their plans and weights."""

from collections.abc import Sequence

from optstudy.errors import UsageError, suggestion
from optstudy.posthoc.measure import Subject
from optstudy.records.checksums import Damage, DamagedError
from optstudy.records.forms import FormError, from_json
from optstudy.records.plan import Plan
from optstudy.records.run import FinalRun
from optstudy.tracking import Tracking
from optstudy.tracking.decode import LOGGED_AGAIN


def find_runs(tracking: Tracking, target: str) -> list[FinalRun]:
    """Return the finished final runs that match ``target``.

    Args:
        tracking: The MLflow store.
        target: A study, STUDY/OPTIMIZER, STUDY/RUN, a run ID or a unique prefix of one.

    Raises:
        UsageError: If no run matches, or the prefix is not unique.
        DamagedError: If a run that matches is damaged.
    """
    studies = tracking.studies()
    study, _, rest = target.partition("/")
    runs, _, damaged = tracking.final_runs([study] if study in studies else studies)
    for damage in damaged:
        if f"{damage.subject}/".startswith(f"{target}/") or target == damage.run_id:
            raise DamagedError(damage)
    if matching := matching_runs(runs, target):
        return matching
    if study not in studies:
        tracking.check_not_deleted([study])
        known = f"; there are {', '.join(studies)}" if studies else ""
        raise UsageError(f"{target!r} is not a study, run or run ID{suggestion(study, studies)}{known}")
    if not runs:
        raise UsageError(f"study {study!r} has no finished final runs yet")
    names = sorted(run.id.name for run in runs)
    raise UsageError(
        f"study {study!r} has no finished run {rest!r}{suggestion(rest, names)}; there are {', '.join(names)}"
    )


def matching_runs(runs: Sequence[FinalRun], target: str) -> list[FinalRun]:
    """Return the runs of a study, STUDY/OPTIMIZER or STUDY/RUN, or the run whose ID has a prefix; may be empty.

    Raises:
        UsageError: If the prefix matches several IDs.
    """
    named = [run for run in runs if f"{run.id}/".startswith(f"{target}/")]
    matching = named or [run for run in runs if run.run_id.startswith(target)]
    if not named and (len(matching) > 1 or (matching and not target)):
        raise UsageError(f"{len(matching)} runs begin with {target!r}; use a longer prefix")
    return matching


def read_plan(tracking: Tracking, run: FinalRun) -> Plan:
    """Return the recorded plan of a run.

    Raises:
        OptstudyError: If it is missing.
        DamagedError: If it cannot be read.
    """
    data = tracking.read_file(run, "plan.json")
    try:
        return from_json(Plan, data, "its file plan.json")
    except FormError as error:
        raise DamagedError(Damage(str(run.id), str(error), LOGGED_AGAIN, run.run_id)) from error


def read_subject(tracking: Tracking, run: FinalRun, at: str) -> Subject:
    """Return a run's weights at its start, middle or end; weights before the end are retrained."""
    weights = tracking.read_file(run, "weights.pt") if at == "end" else None
    return Subject(str(run.id), read_plan(tracking, run), weights, run.optimizer, at)
