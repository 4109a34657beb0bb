"""Time the steps of each configuration while all other workers are idle."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from optstudy.errors import OptstudyError
from optstudy.execution.flows import Task, Workers
from optstudy.records.naming import RunId
from optstudy.records.plan import Plan
from optstudy.study.context import Context
from optstudy.study.events import Notice, UncheckedFile
from optstudy.study.plans import final_plan
from optstudy.study.run_cache import Pace, told
from optstudy.training import time_steps

TIMED_STEPS = 100


def time_rows(
    context: Context, workers: Workers, rows: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Iterator[Notice | UncheckedFile]:
    """Time the steps of each row that has not been timed, one row at a time, and log the pace to its runs.

    A run that has a pace keeps it, since another machine may have logged it. All workers must be idle. ``rows`` holds
    hyperparameters by optimizer and config.
    """
    logged = context.tracking.logged_runs(context.experiment("final"))
    for (optimizer, config), params in rows.items():
        plans = {
            RunId(context.files.name, optimizer, config, seed).name: final_plan(
                context.specification, context.spaces[optimizer], params, seed
            )
            for seed in range(context.specification.training.seeds)
        }
        known = {name: logged[name] for name in plans if name in logged}
        finished = [
            run for name, run in known.items() if run.finished and run.key == context.key(plans[name])
        ]
        if not finished:
            continue
        first = next(iter(plans.values()))
        kept = context.cache.pace(context.key(first))
        pace: Pace | OptstudyError | None = yield from told(kept)
        untimed = [run for run in finished if kept.damage or not run.timed]
        if not untimed:
            continue
        pace = pace or _time_plan(context, workers, first)
        if isinstance(pace, OptstudyError):
            yield Notice(f"the steps of {optimizer}, config {config}, could not be timed: {pace}")
            continue
        for run in untimed:
            context.tracking.log_pace(run.run_id, pace.step_seconds, pace.timed_at)


def _time_plan(context: Context, workers: Workers, plan: Plan) -> Pace | OptstudyError:
    workers.submit(0, Task(time_steps, (plan, TIMED_STEPS), name="timing a run's steps"))
    _, seconds = workers.next_result()
    if isinstance(seconds, OptstudyError):
        return seconds
    pace = Pace(seconds, TIMED_STEPS, time.time())
    context.cache.write_pace(context.key(plan), pace)
    return pace
