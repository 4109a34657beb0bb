"""Estimate the time and disk space of a study from a few timed steps of each optimizer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Task, Workers, run_all
from optstudy.optimizers import OptimizerError
from optstudy.records.plan import Description, Plan, Split, steps_per_epoch
from optstudy.records.space import Space
from optstudy.study.events import OptimizerEstimate, StudyEstimate
from optstudy.study.plans import final_plan, trial_plan
from optstudy.study.specification import Specification
from optstudy.training import Rehearsal, rehearse
from optstudy.training.curvature import CURVATURE_PRODUCTS, LANDSCAPE_POINTS
from optstudy.workloads.datasets import load_description
from optstudy.workloads.splits import load_parts
from optstudy.workloads.user_code import describe_exception

REHEARSED_STEPS = 10
RUN_BYTES = 400_000  # figures, histories and database rows of a final run, beside its weights
TRIAL_BYTES = 20_000
STEP_PRODUCTS = 10  # cost of tracking the eigenvalues at one step, its graph included


@dataclass(frozen=True)
class StudyRehearsal:
    """Results of the timed steps before a study starts."""

    data: Description
    optimizers: dict[str, Rehearsal]  # of a final run each
    startup_seconds: float  # until a worker had imported what it needs


def rehearse_all(
    workers: Workers, specification: Specification, spaces: Mapping[str, Space], *, trials: bool
) -> StudyRehearsal:
    """Describe the data and time a few steps of each optimizer, on the workers that will do the work.

    Args:
        workers: The workers of the study.
        specification: The study's specification.
        spaces: Spaces by optimizer.
        trials: Whether the study tunes, so that the data must suffice for the trials too.

    Raises:
        OptstudyError: If the data, model, loss or an optimizer cannot be used.
    """
    finals = {name: final_plan(specification, space, space.default, 0) for name, space in spaces.items()}
    tuned = [trial_plan(specification, space, space.default) for space in spaces.values() if trials][:1]
    steps = [
        Task(rehearse_optimizer, (space, finals[name]), name=f"the first steps of {_label(space)}")
        for name, space in spaces.items()
    ]
    described = Task(
        describe_data,
        (specification.dataset, [plan.split for plan in tuned]),
        name=f"loading {specification.dataset}",
    )
    started = time.perf_counter()
    run_all([Task(ready, ())], workers)
    startup = time.perf_counter() - started
    [data] = run_all([described], workers)  # alone: it may download
    for plan in (*tuned, *finals.values()):
        _check_batch(plan, data)
    timed = run_all(steps, workers)
    return StudyRehearsal(data, dict(zip(spaces, timed, strict=True)), startup)


def ready() -> None:
    """Do nothing; a worker that runs this task has finished its imports."""


def describe_data(reference: str, splits: Sequence[Split]) -> Description:
    """Load a data set, check that it can be split, and describe it; a worker's task."""
    for split in splits:
        load_parts(reference, split)
    return load_description(reference)


def rehearse_optimizer(space: Space, plan: Plan) -> Rehearsal:
    """Time a few steps of an optimizer; a worker's task.

    Raises:
        UsageError: If data, model, loss and optimizer do not fit together.
        OptstudyError: If the user's code raises; the message names the file and line.
    """
    try:
        return rehearse(plan, REHEARSED_STEPS)
    except OptimizerError as error:
        raise UsageError(f"{space.source}: {error}") from error
    except OptstudyError:
        raise
    except Exception as error:
        raise OptstudyError(
            f"the first steps of {_label(space)} fail at {describe_exception(error, space.optimizer)}"
        ) from error


def _label(space: Space) -> str:
    return f"{space.name} ({space.optimizer}, {space.source})"


def _check_batch(plan: Plan, data: Description) -> None:
    images, _ = split_sizes(plan, data)
    if plan.batch_size > images:
        run = "a trial" if plan.split.role == "tuning" else "a final run"
        raise UsageError(
            f"batch_size is {plan.batch_size}, but {run} trains on {images} images; give {images} or less"
        )


def estimate(
    rehearsed: StudyRehearsal,
    specification: Specification,
    spaces: Mapping[str, Space],
    *,
    trials: bool,
    configs: Sequence[str],
    jobs: int,
) -> StudyEstimate:
    """Estimate the work of a study, assuming that nothing is done yet and no trial is pruned.

    Args:
        rehearsed: Results of the timed steps.
        specification: The study's specification.
        spaces: Spaces by optimizer.
        trials: Whether the study tunes.
        configs: Configurations to train.
        jobs: Number of workers.
    """
    data, rehearsals = rehearsed.data, rehearsed.optimizers
    tuning = specification.tuning
    asked = tuning.whole_trials if trials else 0
    runs = specification.training.seeds * len(configs)
    finalists = min(tuning.finalists, asked)
    again = finalists * tuning.finalist_seeds if finalists > 1 else 0
    rows = []
    for name, rehearsal in rehearsals.items():
        trial = trial_plan(specification, spaces[name], spaces[name].default)
        run = final_plan(specification, spaces[name], spaces[name].default, 0)
        rows.append(
            OptimizerEstimate(
                optimizer=name,
                step_seconds=rehearsal.step_seconds,
                trials=asked,
                trial_seconds=(asked + again) * run_seconds(rehearsal, data, trial, 0, trial.epochs),
                runs=runs,
                run_seconds=runs
                * (
                    run_seconds(rehearsal, data, run, 0, run.epochs) + curvature_seconds(rehearsal, data, run)
                ),
            )
        )
    states = sum(rehearsal.state_bytes for rehearsal in rehearsals.values())
    return StudyEstimate(
        optimizers=tuple(rows),
        jobs=jobs,
        parameters=next(iter(rehearsals.values())).parameters,
        disk_bytes=runs * (2 * states + RUN_BYTES * len(rows)) + (asked + again) * len(rows) * TRIAL_BYTES,
        startup_seconds=rehearsed.startup_seconds,
    )


def run_seconds(rehearsal: Rehearsal, data: Description, plan: Plan, since: int, until: int) -> float:
    """Expected time of a run's epochs after ``since`` up to ``until``, on one worker."""
    images, heldout = split_sizes(plan, data)
    sweeps = sum(since < epoch <= until for epoch in plan.sweep_epochs)
    steps = steps_per_epoch(images, plan.batch_size) * rehearsal.step_seconds
    evaluation = heldout * rehearsal.evaluation_seconds
    epochs = (until - since) * (steps + evaluation) + sweeps * images * rehearsal.sweep_seconds
    return epochs + _trace_seconds(rehearsal, plan, images, since, until)


def _trace_seconds(rehearsal: Rehearsal, plan: Plan, images: int, since: int, until: int) -> float:
    if plan.trace is None:
        return 0.0
    steps = steps_per_epoch(images, plan.batch_size)
    total = plan.epochs * steps
    first = 0 if plan.trace.last is None else max(0, total - plan.trace.last)
    traced = max(0, until * steps - max(first, since * steps)) / plan.trace.every
    return traced * STEP_PRODUCTS * rehearsal.product_seconds


def curvature_seconds(rehearsal: Rehearsal, data: Description, plan: Plan) -> float:
    """Expected time of measuring the curvature at the end of a run, on one worker."""
    if plan.trace is None:
        return 0.0
    images, _ = split_sizes(plan, data)
    points = LANDSCAPE_POINTS * min(plan.trace.samples or images, images)
    return CURVATURE_PRODUCTS * rehearsal.product_seconds + points * rehearsal.evaluation_seconds


def split_sizes(plan: Plan, data: Description) -> tuple[int, int]:
    """Training and held-out images of a plan."""
    if plan.split.role == "final":
        return plan.split.size or data.train, data.test
    return plan.split.size or data.train - plan.split.validation, plan.split.validation
