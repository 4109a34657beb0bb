"""The search of an optimizer as a flow: train the suggested trials, and log each of them."""

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

from optstudy.execution.flows import Flow, Gather
from optstudy.records.metrics import BEST_SCORE, Tag
from optstudy.records.search import SearchResult, Trial, count_states, select_best
from optstudy.records.space import Space
from optstudy.report import figures
from optstudy.report.escape import markdown_code, markdown_text
from optstudy.report.tables.table import reasons_label
from optstudy.study.context import Context
from optstudy.study.events import Notice, TrialEnded
from optstudy.study.fingerprint import space_hash
from optstudy.study.keys import KEYS
from optstudy.study.plans import trial_plan
from optstudy.study.specification import Specification
from optstudy.study.training_run import TrainingRun, already_ended, end_run, train_rung
from optstudy.study.tuning.ask_tell import search
from optstudy.study.tuning.best import previous_best, write_best
from optstudy.study.tuning.finalists import choose_finalist
from optstudy.study.tuning.importance import importances
from optstudy.tracking.run_list_view import trial_columns


def search_flow(context: Context, space: Space, parent: str | None) -> Flow:
    """Search one optimizer's space and write its best configuration; returns the SearchResult.

    ``parent`` is the search's MLflow run, from `open_search`; None if the search was already finished.
    """
    previous = yield from previous_best(context.files.best(space.name))
    trials = yield from _run_trials(context, space, parent)
    objective = context.specification.tuning.objective
    result = SearchResult(
        study=context.files.name,
        space=space,
        objective=objective,
        trials=trials,
        best=select_best(trials, objective),
        settings=search_settings(context.specification),
        sources=_count_sources(context, space, trials),
    )
    result = yield from choose_finalist(context, result, parent)
    if result.best is not None:
        yield from write_best(context, result, previous)
    return result


def open_search(context: Context, space: Space) -> str | None:
    """Open the MLflow run of a search and return its ID; None if the search was already finished."""
    experiment, specification = context.experiment("tuning"), context.specification
    tuning = specification.tuning
    key = f"{space.name} {tuning.rounded_trials} trials"
    logged = context.logged[experiment].get(space.name)
    of_this_space = logged is None or logged.space in ("", space_hash(space))
    if logged is not None and not of_this_space:  # of a study that was removed by hand
        context.tracking.set_tags(logged.run_id, {Tag.SUPERSEDED: "true"})
        logged = None
    if logged is not None and logged.finished and logged.key == key:
        return None
    orphans: list[str] = []  # trials of a search whose damaged run is replaced
    if logged is not None and logged.irreparable:
        context.tracking.discard_run(logged.run_id)
        runs = context.logged[experiment].items()
        orphans = [trial.run_id for name, trial in runs if name.startswith(f"{space.name}/")]
        logged = None
    parent = context.tracking.open_run(
        experiment,
        space.name,
        key=key,
        tags={
            Tag.STUDY: context.files.name,
            Tag.KIND: "search",
            Tag.KEY: key,
            Tag.SPACE: space_hash(space),
            "mlflow.note.content": _description(space, specification),
        },
        params={"optimizer": space.name, "sampler": tuning.sampler, "pruner": tuning.pruner},
        started_at=time.time(),
        logged=logged,
    )
    for trial in orphans:
        context.tracking.set_parent(trial, parent)
    context.tracking.set_columns(experiment, trial_columns(tuning.objective, context.searched))
    part = f"{tuning.tune_size or 'all other'} training and {tuning.validation} validation examples"
    context.tracking.log_dataset(parent, context.data, part)
    return parent


def close_search(context: Context, search: SearchResult, parent: str | None) -> Flow:
    """Log the figures of a search, and end its MLflow run."""
    if search.best is None:
        how = ", ".join(count_states(search.trials))
        if search.failures:
            how += f": {reasons_label('trial', search.failures)}"
        yield Notice(
            f"no trial of {search.optimizer} completed ({how}); check the ranges in {search.space.source} or, if"
            " other optimizers fail, too, the model, loss and data",
            problem=True,
        )
    if parent is not None:
        search = dataclasses.replace(search, importances=importances(search, context.specification.seed))
        context.tracking.log_files(parent, _files(search))
        if search.best is None and search.failures:
            context.tracking.set_tags(parent, {Tag.PROBLEM: reasons_label("trial", search.failures)})
        context.tracking.close_run(parent, "completed" if search.best else "failed")
    if search.best is not None:
        yield search


def search_settings(specification: Specification) -> dict[str, Any]:
    """Return the keys of a specification that determine a search."""
    keys = specification.to_keys()
    return {
        name: value
        for name, value in keys.items()
        if KEYS[name].group == "tuning" or name in ("batch_size", "seed")
    }


def _count_sources(context: Context, space: Space, trials: Sequence[Trial]) -> dict[str, dict[str, int]]:
    """Return the number of trials by user's file and its hash."""
    counts: dict[str, dict[str, int]] = {}
    for trial in trials:
        plan = trial_plan(context.specification, space, trial.params)
        for name, digest in context.source_hashes(plan).items():
            by_hash = counts.setdefault(name, {})
            by_hash[digest] = by_hash.get(digest, 0) + 1
    return counts


def _run_trials(context: Context, space: Space, parent: str | None) -> Flow:
    tuning = context.specification.tuning
    yield from context.journal.check()
    searching = search(space, tuning, context.specification.seed, context.journal)
    runs: dict[int, TrainingRun] = {}
    best: Trial | None = None
    try:
        trials = next(searching)
        while True:
            if trials[0].state == "running":
                current = [
                    runs.get(trial.number) or _trial_run(context, space, trial, parent) for trial in trials
                ]
                trained: list[TrainingRun] = yield Gather(
                    tuple(train_rung(context, run, tuning.rung_end(run.trained)) for run in current)
                )
                runs |= {trial.number: run for trial, run in zip(trials, trained, strict=True)}
                trials = searching.send(
                    [_report(trial, runs[trial.number], tuning.objective) for trial in trials]
                )
            else:
                for trial in trials:
                    best = select_best([trial] if best is None else [best, trial], tuning.objective)
                    yield from _end_trial(context, runs.pop(trial.number), trial, best, parent)
                trials = next(searching)
    except StopIteration as stop:
        return stop.value


def _trial_run(context: Context, space: Space, trial: Trial, parent: str | None) -> TrainingRun:
    plan = trial_plan(context.specification, space, trial.params)
    return TrainingRun(
        kind="trial",
        name=f"{space.name}/{trial.number:03d}",
        optimizer=space.name,
        plan=plan,
        key=context.key(plan),
        params={"trial": trial.number, **trial.params},
        parent=parent,
    )


def _report(trial: Trial, run: TrainingRun, objective: str) -> Trial:
    """Return a trial updated with the results of its run."""
    score = run.score(objective)
    return dataclasses.replace(
        trial,
        state=run.outcome,
        score=score,
        scores=(*trial.scores, score),
        epochs=run.trained,
        gradient_work=run.gradient_work,
        problem=run.problem,
    )


def _end_trial(
    context: Context, run: TrainingRun, trial: Trial, best: Trial | None, parent: str | None
) -> Flow:
    """Log the best score so far, and close the run of a trial that has ended."""
    already_done = already_ended(context, run)
    search = context.logged[context.experiment("tuning")].get(run.optimizer)
    is_logged = already_done and search is not None and search.run_id == parent  # with the score below
    if best is not None and parent is not None and run.finished_at is not None and not is_logged:
        name = BEST_SCORE.format(objective=context.specification.tuning.objective)
        metric = (name, best.score or 0.0, trial.number, run.finished_at)
        context.tracking.log_metrics(parent, [metric])
    yield from end_run(context, run, trial.state)
    yield TrialEnded(run.optimizer, trial, already_done=already_done)


def _files(search: SearchResult) -> dict[str, bytes]:
    drawn = {
        "history.png": figures.history(search),
        "importances.png": figures.importances(search),
        "slices.png": figures.slices(search),
        "learning_rate.png": figures.score_against_learning_rate(search),
    }
    files = {name: figures.png(figure) for name, figure in drawn.items()}
    return files | {"search.json": json.dumps(search.to_form(), indent=1).encode()}


def _description(space: Space, specification: Specification) -> str:
    tuning = specification.tuning
    rows = "\n".join(
        f"| {markdown_code(item.name)} | {markdown_text(str(item))} | {markdown_text(item.why)} |"
        for item in space.search
    )
    return (
        f"Search of **{markdown_text(space.look.label)}** ({markdown_code(space.optimizer)}):"
        f" {tuning.rounded_trials} trials of"
        f" {tuning.tune_epochs} epoch{'s' * (tuning.tune_epochs > 1)}, ranked by validation {tuning.objective}.\n\n"
        f"| hyperparameter | searched | why |\n|---|---|---|\n{rows}\n"
    )
