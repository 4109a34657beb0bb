"""Final runs by name, ID or study, and what they left behind."""

from optstudy.errors import UsageError, nearest
from optstudy.posthoc.measure import Subject
from optstudy.records.forms import from_json
from optstudy.records.naming import final_name
from optstudy.records.plan import Plan
from optstudy.records.run import FinalRun
from optstudy.tracking import Tracking


def find_runs(tracking: Tracking, target: str) -> list[FinalRun]:
    """Return the finished final runs that a name means.

    Args:
        tracking: Where they are.
        target: A study, STUDY/OPTIMIZER, STUDY/RUN, a run ID or its unique beginning.

    Raises:
        UsageError: If it means none, or its beginning several.
    """
    studies = tracking.studies()
    study, slash, rest = target.partition("/")
    if study in studies:
        runs = list(tracking.final_runs([study]).runs)
        if not slash:
            if not runs:
                raise UsageError(f"study {study!r} has no finished final runs yet")
            return runs
        named = {run_name(run): run for run in runs}
        group = [run for name, run in named.items() if name.startswith(f"{rest}/")]
        if group:
            return group
        if rest not in named:
            raise UsageError(
                f"study {study!r} has no finished run {rest!r}{nearest(rest, named)};"
                f" there are {', '.join(sorted(named))}"
            )
        return [named[rest]]
    matching = [run for run in tracking.final_runs(studies).runs if run.run_id.startswith(target)]
    if len(matching) == 1 and target:
        return matching
    if matching:
        raise UsageError(f"{len(matching)} runs begin with {target!r}; give more of the ID")
    known = f"; there are {', '.join(studies)}" if studies else ""
    raise UsageError(f"{target!r} is no study, run or run ID{nearest(study, studies)}{known}")


def run_name(run: FinalRun) -> str:
    """The name of a run inside its study."""
    return final_name(run.optimizer, run.config, run.seed)


def plan_of(tracking: Tracking, run: FinalRun) -> Plan:
    """Return the plan that a run recorded.

    Raises:
        OptstudyError: If there is none, or none that can be read.
    """
    data = tracking.read_file(run.run_id, "plan.json")
    return from_json(Plan, data, f"plan.json of run {run.study}/{run_name(run)}")


def subject_of(tracking: Tracking, run: FinalRun, at: str) -> Subject:
    """Return a run's weights at its start, in its middle or at its end; all but the last by training again."""
    weights = tracking.read_file(run.run_id, "weights.pt") if at == "end" else None
    return Subject(f"{run.study}/{run_name(run)}", plan_of(tracking, run), weights, run.optimizer, at)
