"""Flows that train, log and close a run, one rung at a time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from optstudy.errors import OptstudyError
from optstudy.execution.flows import Flow
from optstudy.records.metrics import TRIAL_WORK, Tag, step_metrics
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, Observation, Outcome, Rung
from optstudy.study.context import Context
from optstudy.study.events import Notice, WorkDone


@dataclass(frozen=True)
class TrainingRun:
    """A run of a study, and its rungs so far."""

    kind: Literal["trial", "finalist", "final"]
    name: str  # within the study
    optimizer: str  # its name in the study
    plan: Plan
    key: str  # of the plan
    params: Mapping[str, Any]  # as shown by MLflow
    tags: Mapping[str, str] = field(default_factory=dict)  # in addition to the tags of all runs
    dataset: str | None = None  # the part of the data set, as MLflow shows it
    parent: str | None = None  # the search's MLflow run
    run_id: str | None = None  # of MLflow; None before the first rung, and if the run had already ended
    rungs: tuple[Rung, ...] = ()

    @property
    def experiment(self) -> Literal["tuning", "final"]:
        """The study's MLflow experiment that contains the run."""
        return "final" if self.kind == "final" else "tuning"

    @property
    def epochs(self) -> tuple[EpochRecord, ...]:
        """All epochs so far."""
        return tuple(record for rung in self.rungs for record in rung.epochs)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """All observations so far."""
        return tuple(observation for rung in self.rungs for observation in rung.observations)

    @property
    def outcome(self) -> Outcome:
        """The outcome so far."""
        return self.rungs[-1].outcome if self.rungs else "running"

    @property
    def problem(self) -> str:
        """The error, if the run failed."""
        return self.rungs[-1].problem if self.rungs else ""

    @property
    def trained(self) -> int:
        """Epochs trained."""
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def gradient_work(self) -> float:
        """Forward and backward passes over a mini-batch so far; a Hessian product counts 2."""
        return sum(record.gradient_work for record in self.epochs)

    @property
    def finished_at(self) -> float | None:
        """Unix time at the end of the last epoch; None without epochs.

        Metrics are logged with this time, so that logging them again does not duplicate them.
        """
        return self.epochs[-1].finished_at if self.epochs else None

    def score(self, objective: str) -> float | None:
        """The objective on the held-out images after the last epoch; None if it is not finite or the run failed."""
        if self.outcome == "failed":
            return None
        last = self.epochs[-1]
        return last.heldout_accuracy if objective == "accuracy" else last.heldout_loss


def already_ended(context: Context, run: TrainingRun) -> bool:
    """Whether a run had already ended when this command started the study.

    A final run without its curvature has not, nor has one whose curvature has another format: it is measured again.
    """
    logged = context.logged_run(run.experiment, run.name, run.key)
    if logged is None:
        return False
    if run.kind != "final":
        return logged.ended
    return logged.finished and not (logged.curvature_problem or context.is_outdated(run.plan, logged))


def train_rung(context: Context, run: TrainingRun, until: int) -> Flow:
    """Train a run to the end of epoch ``until``, and log it; returns the run with its new rung."""
    already_done = already_ended(context, run)
    rung = yield from context.rung(
        run.optimizer, run.plan, run.trained, until, state_needed=run.kind == "final"
    )
    if isinstance(rung, OptstudyError):
        rung = Rung((), (), "failed", problem=str(rung))
        if run.kind != "final":  # a resumed search must see the same outcome; final runs are retried
            context.cache.write(run.key, until, rung, None)
    if rung.problem and not already_done:
        yield _failure_notice(context, run, rung.problem)
    started = run.trained
    run = replace(run, rungs=(*run.rungs, rung))
    if not already_done:
        run = _log_rung(context, run, rung)
    if rung.epochs:
        done = context.seconds(run.optimizer, run.plan, started, run.trained)
        yield WorkDone(run.name, done, rung.epochs[-1], already_done=already_done)
    return run


def end_run(context: Context, run: TrainingRun, outcome: str) -> Flow:
    """Close a trial or a finalist that will not continue, and delete its state."""
    context.cache.drop_state(run.key)
    if run.run_id is not None:
        if run.finished_at is not None:
            work = (TRIAL_WORK, run.gradient_work, 0, run.finished_at)
            context.tracking.log_metrics(run.run_id, [work])
        context.tracking.close_run(run.run_id, outcome, run.finished_at)
    yield from skip_rest(context, run)


def skip_rest(context: Context, run: TrainingRun) -> Flow:
    """Report the remaining epochs of an ended run as progress."""
    left = context.seconds(run.optimizer, run.plan, run.trained, run.plan.epochs)
    yield WorkDone(run.name, left, already_done=already_ended(context, run))


def _failure_notice(context: Context, run: TrainingRun, problem: str) -> Notice:
    """Return a notice for a trial, whose failure a search tolerates, or a problem for a final run."""
    if run.kind == "final":
        return Notice(f"{context.files.name}/{run.name} failed: {problem}", problem=True)
    return Notice(f"trial {run.name} failed: {problem}")


def _log_rung(context: Context, run: TrainingRun, rung: Rung) -> TrainingRun:
    tracking, run_id = context.tracking, run.run_id or _open(context, run, rung)
    tracking.log_epochs(run_id, rung.epochs, "test" if run.kind == "final" else "validation")
    if rung.epochs:
        at = rung.epochs[-1].finished_at
        steps = [(name, value, step, at) for name, value, step in step_metrics(rung.observations)]
        tracking.log_metrics(run_id, steps)
    if rung.problem:
        tracking.set_tags(run_id, {Tag.PROBLEM: rung.problem})
    return replace(run, run_id=run_id)


def _open(context: Context, run: TrainingRun, rung: Rung) -> str:
    first = rung.epochs[0] if rung.epochs else None
    logged = context.logged_run(run.experiment, run.name, run.key)
    other = context.logged[context.experiment(run.experiment)].get(run.name)
    if other is not None and other.irreparable:
        context.tracking.discard_run(other.run_id)
        logged = None
    elif other is not None and (logged is None or context.is_outdated(run.plan, logged)):
        # It had not finished before a change of a source file was accepted, or its curvature is measured again: MLflow
        # would keep the larger of two values that are logged at the same time.
        context.tracking.set_tags(other.run_id, {Tag.SUPERSEDED: "true"})
        logged = None
    run_id = context.tracking.open_run(
        context.experiment(run.experiment),
        run.name,
        key=run.key,
        tags={
            Tag.STUDY: context.files.name,
            Tag.KIND: run.kind,
            **run.tags,
            **({Tag.PROBLEM: ""} if logged is not None and logged.problem else {}),  # of an earlier attempt
            **context.provenance_tags(run.plan, [rung.machine]),
        },
        params={"optimizer": run.optimizer, **run.params},
        started_at=first.finished_at - first.seconds if first else time.time(),
        parent=run.parent,
        logged=logged,
    )
    if run.dataset is not None:
        context.tracking.log_dataset(run_id, context.data, run.dataset)
    return run_id
