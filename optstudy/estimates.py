"""What a study will take, told from a few timed steps of each optimizer."""

from collections.abc import Mapping, Sequence

from optstudy.data import Description, Split, describe, load, load_parts
from optstudy.events import Estimate, OptimizerEstimate
from optstudy.flows import Task, Workers, run_all
from optstudy.optimizers import Space
from optstudy.plans import final_plan, search_settings, trial_plan
from optstudy.specification import Specification
from optstudy.training import Plan, Rehearsal, rehearse, steps_per_epoch

REHEARSED_STEPS = 10
RUN_BYTES = 400_000  # figures, histories and database rows of a final run, beside its weights
TRIAL_BYTES = 20_000


def rehearse_all(
    workers: Workers, specification: Specification, spaces: Mapping[str, Space], *, trials: bool
) -> tuple[Description, dict[str, Rehearsal]]:
    """Describe the data and time a few steps of each optimizer, on the workers that will do the work.

    Args:
        workers: Who is to do the work.
        specification: What the study is made of.
        spaces: Spaces by optimizer.
        trials: Whether it tunes, so that the data must suffice for the trials too.

    Raises:
        OptstudyError: If data, model, loss or an optimizer cannot be used; before anything is spent on them.
    """
    plans = [final_plan(specification, space, space.default, 0) for space in spaces.values()]
    steps = [Task(rehearse, (plan, REHEARSED_STEPS)) for plan in plans]
    splits = [trial_plan(specification, space, space.default).split for space in spaces.values() if trials]
    described = Task(describe_data, (specification.dataset, splits[:1]))
    [data] = run_all([described], workers)  # alone: it may download
    timed = run_all(steps, workers)
    return data, dict(zip(spaces, timed, strict=True))


def describe_data(reference: str, splits: Sequence[Split]) -> Description:
    """Load a data set, find out whether it can be split so, and describe it; a worker's task."""
    for split in splits:
        load_parts(reference, split)
    return describe(load(reference), reference)


def estimate(
    data: Description,
    rehearsals: Mapping[str, Rehearsal],
    specification: Specification,
    spaces: Mapping[str, Space],
    *,
    trials: bool,
    configs: Sequence[str],
    jobs: int,
) -> Estimate:
    """Tell what a study will take if nothing of it is done yet and no trial is pruned.

    Args:
        data: The data set.
        rehearsals: Timed steps by optimizer.
        specification: What the study is made of.
        spaces: Spaces by optimizer.
        trials: Whether it tunes.
        configs: Configurations that it trains.
        jobs: Workers.
    """
    asked = search_settings(specification).trials if trials else 0
    runs = specification.seeds * len(configs)
    rows = []
    for name, rehearsal in rehearsals.items():
        trial = trial_plan(specification, spaces[name], spaces[name].default)
        run = final_plan(specification, spaces[name], spaces[name].default, 0)
        rows.append(
            OptimizerEstimate(
                optimizer=name,
                step_seconds=rehearsal.step_seconds,
                trials=asked,
                trial_seconds=asked * run_seconds(rehearsal, data, trial, 0, trial.epochs),
                runs=runs,
                run_seconds=runs * run_seconds(rehearsal, data, run, 0, run.epochs),
            )
        )
    states = sum(rehearsal.state_bytes for rehearsal in rehearsals.values())
    return Estimate(
        optimizers=tuple(rows),
        jobs=jobs,
        parameters=next(iter(rehearsals.values())).parameters,
        disk_bytes=runs * (2 * states + RUN_BYTES * len(rows)) + asked * len(rows) * TRIAL_BYTES,
    )


def run_seconds(rehearsal: Rehearsal, data: Description, plan: Plan, since: int, until: int) -> float:
    """Expected time of a run's epochs after ``since`` up to ``until``, on one worker."""
    images, heldout = split_sizes(plan, data)
    sweeps = sum(since < epoch <= until for epoch in plan.sweep_epochs)
    steps = steps_per_epoch(images, plan.batch_size) * rehearsal.step_seconds
    evaluation = heldout * rehearsal.evaluation_seconds
    return (until - since) * (steps + evaluation) + sweeps * images * rehearsal.sweep_seconds


def split_sizes(plan: Plan, data: Description) -> tuple[int, int]:
    """Training and held-out images of a plan."""
    if plan.split.role == "final":
        return plan.split.size or data.train, data.test
    return plan.split.size or data.train - plan.split.validation, plan.split.validation
