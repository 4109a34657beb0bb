"""Estimate the time and disk space of a study from timed steps of each optimizer and the start-up of the workers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Task, Workers, run_all
from optstudy.optimizers import OptimizerError
from optstudy.records.plan import DatasetDescription, Plan, steps_per_epoch
from optstudy.records.space import Space
from optstudy.study.checks import check_plans, unreachable_settings
from optstudy.study.plans import final_plan, split_sizes, trial_plan, variant_plans
from optstudy.study.specification import Specification
from optstudy.training import Rehearsal, rehearse
from optstudy.training.curvature import CURVATURE_PRODUCTS, LANDSCAPE_POINTS
from optstudy.workloads.user_code import describe_exception

RUN_BYTES = 400_000  # figures, histories and database rows of a final run, without its weights
TRIAL_BYTES = 20_000
STEP_PRODUCTS = 10  # cost of tracking the eigenvalues at one step, including its graph


@dataclass(frozen=True)
class StudyEstimate:
    """Estimated work of a study, assuming no finished work and no pruned trials."""

    data: DatasetDescription
    rehearsals: Mapping[str, Rehearsal]  # of a final run, by optimizer
    trials: int  # of each optimizer
    trial_seconds: Mapping[str, float]  # all trials and finalists of an optimizer, on one worker
    runs: int  # final runs of each optimizer
    run_seconds: Mapping[str, float]  # all final runs of an optimizer, on one worker
    disk_bytes: int
    jobs: int = 1  # number of workers
    startup_seconds: float = 0.0  # until the workers have finished their imports
    remarks: tuple[str, ...] = ()  # what the user should know about the data and the settings

    @property
    def seconds(self) -> float:
        """Expected wall time."""
        return self.startup_seconds + self.work_seconds

    @property
    def work_seconds(self) -> float:
        """Expected wall time of all work, shared by the workers."""
        return (sum(self.trial_seconds.values()) + sum(self.run_seconds.values())) / self.jobs


def estimate_study(
    workers: Workers,
    specification: Specification,
    spaces: Mapping[str, Space],
    *,
    tuning: bool,
    configs: Sequence[str],
) -> StudyEstimate:
    """Check that a study's plans can run, and time a few steps of each optimizer.

    Raises:
        OptstudyError: If the data, model, loss or an optimizer cannot be used.
    """
    finals = {name: final_plan(specification, space, space.default, 0) for name, space in spaces.items()}
    trials = {
        name: trial_plan(specification, space, space.default) for name, space in spaces.items() if tuning
    }
    paper = tuning or "paper" in configs  # a search begins with the paper's values
    started = time.perf_counter()
    run_all([Task(ready, ())], workers)
    startup = time.perf_counter() - started
    data, remarks = check_plans(workers, [*trials.values(), *finals.values()])
    rehearsals = run_all(
        [
            Task(
                rehearse_optimizer,
                (space, finals[name], trials.get(name), variant_plans(specification, space, paper=paper)),
                name=f"the first steps of {_label(space)}",
            )
            for name, space in spaces.items()
        ],
        workers,
    )
    estimate = estimate_work(
        data,
        dict(zip(spaces, rehearsals, strict=True)),
        specification,
        spaces,
        tuning=tuning,
        configs=configs,
    )
    remarks += dict.fromkeys(remark for rehearsal in rehearsals for remark in rehearsal.remarks)
    remarks += unreachable_settings(specification, data, tuning=tuning, training=bool(configs))
    return replace(estimate, jobs=len(workers), startup_seconds=startup, remarks=tuple(remarks))


def ready() -> None:
    """Do nothing; a worker that runs this task has finished its imports."""


def rehearse_optimizer(
    space: Space, plan: Plan, trial: Plan | None, variants: Mapping[str, Plan]
) -> Rehearsal:
    """Rehearse the runs of an optimizer; a worker's task.

    Raises:
        UsageError: If data, model, loss and optimizer are incompatible.
        OptstudyError: If the user's code raises; the message names the file and line.
    """
    try:
        return rehearse(plan, trial, variants)
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


def estimate_work(
    data: DatasetDescription,
    rehearsals: Mapping[str, Rehearsal],
    specification: Specification,
    spaces: Mapping[str, Space],
    *,
    tuning: bool,
    configs: Sequence[str],
) -> StudyEstimate:
    """Estimate the work of a study from timed steps of its optimizers, on one worker."""
    settings = specification.tuning
    trials = settings.rounded_trials if tuning else 0
    finalists = min(settings.finalists, trials)
    finalist_runs = finalists * settings.finalist_seeds if finalists > 1 else 0
    runs = specification.training.seeds * len(configs)
    trial_seconds, run_seconds = {}, {}
    for name, rehearsal in rehearsals.items():
        trial = trial_plan(specification, spaces[name], spaces[name].default)
        final = final_plan(specification, spaces[name], spaces[name].default, 0)
        trial_seconds[name] = (trials + finalist_runs) * epoch_seconds(
            rehearsal, data, trial, 0, trial.epochs
        )
        final_seconds = epoch_seconds(rehearsal, data, final, 0, final.epochs)
        run_seconds[name] = runs * (final_seconds + curvature_seconds(rehearsal, data, final))
    states = sum(rehearsal.state_bytes for rehearsal in rehearsals.values())
    count = len(rehearsals)
    return StudyEstimate(
        data=data,
        rehearsals=rehearsals,
        trials=trials,
        trial_seconds=trial_seconds,
        runs=runs,
        run_seconds=run_seconds,
        disk_bytes=runs * (2 * states + RUN_BYTES * count) + (trials + finalist_runs) * count * TRIAL_BYTES,
    )


def epoch_seconds(
    rehearsal: Rehearsal, data: DatasetDescription, plan: Plan, since: int, until: int
) -> float:
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


def curvature_seconds(rehearsal: Rehearsal, data: DatasetDescription, plan: Plan) -> float:
    """Expected time of measuring the curvature at the end of a run, on one worker."""
    if plan.trace is None:
        return 0.0
    images, _ = split_sizes(plan, data)
    points = LANDSCAPE_POINTS * min(plan.trace.samples or images, images)
    return CURVATURE_PRODUCTS * rehearsal.product_seconds + points * rehearsal.evaluation_seconds
