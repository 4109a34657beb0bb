"""The best trials of a search, trained again from other seeds before one of them is chosen."""

import dataclasses
import time
from typing import Any

from optstudy.execution.flows import Failure, Flow, Together
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, Rung
from optstudy.records.search import Finalist, Searched, Trial, best_trials, chosen
from optstudy.records.space import Space
from optstudy.study.context import Context
from optstudy.study.events import Notice, Progress
from optstudy.study.plans import trial_plan


def choose_finalist(context: Context, space: Space, searched: Searched, parent: str | None) -> Flow:
    """Train the best trials again and choose by these scores alone; the flow returns the search with its finalists.

    Args:
        context: The study under way.
        space: The optimizer's.
        searched: A search whose trials have all ended.
        parent: The search's MLflow run; None where it is finished already.
    """
    specification = context.specification
    trials = best_trials(searched.trials, searched.objective, specification.finalists)
    if len(trials) < 2:  # noqa: PLR2004  # nothing to choose among
        return searched
    again = range(1, specification.finalist_seeds + 1)
    flows = [_train_again(context, space, trial, number, parent) for trial in trials for number in again]
    ended: list[_Ended] = yield Together(tuple(flows))
    finalists = []
    for place, trial in enumerate(trials):
        own = ended[place * len(again) : (place + 1) * len(again)]
        finalists.append(
            Finalist(
                trial.number,
                tuple(one.seed for one in own),
                tuple(one.score(searched.objective) for one in own),
                sum(record.gradient_work for one in own for record in one.records),
            )
        )
    best = chosen(finalists, searched.objective).trial
    return dataclasses.replace(
        searched,
        best=next(trial for trial in trials if trial.number == best),
        finalists=tuple(finalists),
    )


@dataclasses.dataclass(frozen=True)
class _Ended:
    seed: int
    outcome: str
    records: tuple[EpochRecord, ...]

    def score(self, objective: str) -> float | None:
        if self.outcome != "completed":
            return None
        last = self.records[-1]
        return last.heldout_accuracy if objective == "accuracy" else last.heldout_loss


def _train_again(context: Context, space: Space, trial: Trial, again: int, parent: str | None) -> Flow:
    """Train one finalist from one seed, and log it; the flow returns how it ended."""
    plan = trial_plan(context.specification, space, trial.params, again)
    name = f"{space.name}/{trial.number:03d}/seed-{plan.seed}"
    known = context.known_run("tuning", name, plan)
    old = known is not None and known.ended
    records: list[EpochRecord] = []
    run_id, outcome, since = None, "running", 0
    try:
        while outcome == "running":
            until = min(since + context.specification.rung_epochs, plan.epochs)
            rung = yield from context.rung(space.name, plan, since, until)
            if isinstance(rung, Failure):
                rung = context.keep_failure(plan, until, rung)
            if rung.problem and not old:
                yield Notice(f"trial {name} failed: {rung.problem}")
            records += rung.epochs
            if not old:
                run_id = run_id or _open(context, space, trial, plan, name, parent, rung)
                context.tracking.log_epochs(run_id, rung.epochs, "validation")
                if rung.problem:
                    context.tracking.set_tags(run_id, {"optstudy.problem": rung.problem})
            done = context.seconds(space.name, plan, since, until)
            yield Progress(name, done, records[-1] if rung.epochs else None, before=old)
            outcome, since = rung.outcome, until
        context.rungs.drop_state(context.key(plan))
        yield Progress(name, context.seconds(space.name, plan, since, plan.epochs), before=old)
        if run_id is not None:
            finished_at = records[-1].finished_at if records else None
            if finished_at is not None:
                spent = sum(record.gradient_work for record in records)
                context.tracking.log_metrics(run_id, [("gradient_work", spent, 0, finished_at)])
            context.tracking.close_run(run_id, outcome, finished_at)
            run_id = None
        return _Ended(plan.seed, outcome, tuple(records))
    finally:
        if run_id is not None:
            context.tracking.interrupt_run(run_id)


def _open(
    context: Context, space: Space, trial: Trial, plan: Plan, name: str, parent: str | None, rung: Rung
) -> str:
    first = rung.epochs[0] if rung.epochs else None
    params: dict[str, Any] = {"optimizer": space.name, "trial": trial.number, "seed": plan.seed}
    return context.tracking.open_run(
        context.experiment("tuning"),
        name,
        key=context.key(plan),
        tags={
            "optstudy.study": context.files.name,
            "optstudy.kind": "finalist",
            **context.facts(plan, [rung.machine]),
        },
        params={**params, **trial.params},
        started_at=first.finished_at - first.seconds if first else time.time(),
        parent=parent,
        known=context.known_run("tuning", name, plan),
    )
