"""Select among the finalists of a search: retrain the best trials from other seeds, and select by the new scores."""

import dataclasses

from optstudy.execution.flows import Flow, Gather
from optstudy.records.search import Finalist, SearchResult, Trial, best_trials, select_best
from optstudy.study.context import Context
from optstudy.study.plans import trial_plan
from optstudy.study.training_run import TrainingRun, end_run, train_rung


def choose_finalist(context: Context, search: SearchResult, parent: str | None) -> Flow:
    """Retrain the best trials and select by the new scores only; returns the search with its finalists.

    ``parent`` is the search's MLflow run; None if the search was already finished.
    """
    tuning = context.specification.tuning
    trials = best_trials(search.trials, search.objective, tuning.finalists)
    if len(trials) < 2:  # noqa: PLR2004  # a single trial needs no selection
        return search
    repeats = range(1, tuning.finalist_seeds + 1)
    flows = [_train_finalist(context, search, trial, n, parent) for trial in trials for n in repeats]
    ended: list[TrainingRun] = yield Gather(tuple(flows))
    finalists = []
    for index, trial in enumerate(trials):
        runs = ended[index * len(repeats) : (index + 1) * len(repeats)]
        finalists.append(
            Finalist(
                trial.number,
                tuple(run.plan.seed for run in runs),
                tuple(run.score(search.objective) if run.outcome == "completed" else None for run in runs),
                sum(run.gradient_work for run in runs),
            )
        )
    best = select_best(search.trials, search.objective, finalists)
    return dataclasses.replace(search, best=best, finalists=tuple(finalists))


def _train_finalist(
    context: Context, search: SearchResult, trial: Trial, repeat: int, parent: str | None
) -> Flow:
    """Train one finalist from one seed; returns the run."""
    plan = trial_plan(context.specification, search.space, trial.params, repeat)
    run = TrainingRun(
        kind="finalist",
        name=f"{search.optimizer}/{trial.number:03d}/seed-{plan.seed}",
        optimizer=search.optimizer,
        plan=plan,
        key=context.key(plan),
        params={"trial": trial.number, "seed": plan.seed, **trial.params},
        parent=parent,
    )
    while run.outcome == "running":
        run = yield from train_rung(context, run, context.specification.tuning.rung_end(run.trained))
    yield from end_run(context, run, run.outcome)
    return run
