"""Choose among the finalists of a search: retrain the best trials from other seeds, and select by these scores."""

import dataclasses

from optstudy.execution.flows import Flow, Gather
from optstudy.records.search import Finalist, SearchResult, Trial, best_trials, select_best
from optstudy.study.context import Context
from optstudy.study.plans import trial_plan
from optstudy.study.training_run import TrainingRun, end_run, train_rung


def choose_finalist(context: Context, search: SearchResult, parent: str | None) -> Flow:
    """Retrain the best trials and select by the new scores alone; the flow returns the search with its finalists.

    Args:
        context: The running study.
        search: A search whose trials have all ended.
        parent: The search's MLflow run; None where it is finished already.
    """
    tuning = context.specification.tuning
    trials = best_trials(search.trials, search.objective, tuning.finalists)
    if len(trials) < 2:  # noqa: PLR2004  # nothing to choose among
        return search
    again = range(1, tuning.finalist_seeds + 1)
    flows = [_train_finalist(context, search, trial, number, parent) for trial in trials for number in again]
    ended: list[TrainingRun] = yield Gather(tuple(flows))
    finalists = []
    for place, trial in enumerate(trials):
        own = ended[place * len(again) : (place + 1) * len(again)]
        finalists.append(
            Finalist(
                trial.number,
                tuple(one.plan.seed for one in own),
                tuple(one.score(search.objective) if one.outcome == "completed" else None for one in own),
                sum(one.gradient_work for one in own),
            )
        )
    best = select_best(search.trials, search.objective, finalists)
    return dataclasses.replace(search, best=best, finalists=tuple(finalists))


def _train_finalist(
    context: Context, search: SearchResult, trial: Trial, again: int, parent: str | None
) -> Flow:
    """Train one finalist from one seed; the flow returns the run as it ended."""
    plan = trial_plan(context.specification, search.space, trial.params, again)
    run = TrainingRun(
        kind="finalist",
        name=f"{search.optimizer}/{trial.number:03d}/seed-{plan.seed}",
        optimizer=search.optimizer,
        plan=plan,
        params={"trial": trial.number, "seed": plan.seed, **trial.params},
        parent=parent,
    )
    while run.outcome == "running":
        run = yield from train_rung(context, run, context.specification.tuning.rung_end(run.trained))
    yield from end_run(context, run, run.outcome)
    return run
