"""Final runs as flows: train a configuration on all training images, measure its curvature, and log it."""

import io
import json
from collections.abc import Mapping
from typing import Any

import torch

from optstudy.errors import OptstudyError, one_line
from optstudy.execution.flows import Flow, Task
from optstudy.records.eigen_trace import format_change, trace_problem
from optstudy.records.io import find_unwritten, temporary_folder
from optstudy.records.metrics import RunResults, Tag, final_metrics
from optstudy.records.naming import RowKey, RunId
from optstudy.records.plan import Plan
from optstudy.report.escape import markdown_code, markdown_text
from optstudy.study.artifacts import draw_run
from optstudy.study.context import Context
from optstudy.study.events import Notice, RunEnded, WorkDone
from optstudy.study.keys import KEYS
from optstudy.study.plans import final_plan, is_paper_setting, split_sizes
from optstudy.study.training_run import TrainingRun, already_ended, skip_rest, train_rung
from optstudy.tracking import save_model
from optstudy.training import RunState
from optstudy.workloads.batches import prepare
from optstudy.workloads.models import build_model

Weights = dict[str, torch.Tensor]


def final_run_flow(
    context: Context, optimizer: str, config: str, seed: int, params: Mapping[str, Any]
) -> Flow:
    """Train one configuration from one seed, in rungs of one epoch."""
    run = _final_run(context, optimizer, config, seed, params)
    if already_ended(context, run):
        training_seconds = context.seconds(optimizer, run.plan, 0, run.plan.epochs)
        yield WorkDone(
            run.name, training_seconds + context.curvature_seconds(optimizer, run.plan), already_done=True
        )
        return
    while run.outcome == "running":
        run = yield from train_rung(context, run, run.trained + 1)
    assert run.run_id is not None
    if run.outcome == "failed":
        context.tracking.close_run(run.run_id, "failed")
        return
    yield from skip_rest(context, run)
    context.tracking.set_tags(
        run.run_id, context.provenance_tags(run.plan, [rung.machine for rung in run.rungs])
    )
    weights = yield from _weights(context, run)
    if isinstance(weights, OptstudyError):
        context.cache.drop_state(run.key)  # so that the next command trains the run again
        yield from _fail(context, run, weights)
        return
    unfinished = yield from _finish(context, run, weights)
    if unfinished is not None:
        yield from _fail(context, run, unfinished)
        return
    if seed == 0:  # one loadable model per configuration is enough
        yield from _log_model(context, run, weights)
    context.tracking.close_run(run.run_id, run.outcome, run.finished_at)
    last = run.epochs[-1]
    yield RunEnded(run.name, run.outcome, last.exact_accuracy or 0.0, last.heldout_accuracy)


def tag_superseded(context: Context, optimizer: str, config: str, params: Mapping[str, Any]) -> Flow:
    """Tag the final runs trained with outdated hyperparameters or source files of the configuration."""
    old, study = [], context.files.name
    for name, logged in context.logged[context.experiment("final")].items():
        run = RunId.parse(study, name)
        if run is None or run.row != RowKey(study, optimizer, config) or logged.irreparable:
            continue
        plan = final_plan(context.specification, context.spaces[optimizer], params, run.seed)
        if logged.key != context.key(plan):
            context.tracking.set_tags(logged.run_id, {Tag.SUPERSEDED: "true"})
            old.append(name)
    if old:
        what = "the best configuration" + " or an accepted source file" * bool(context.earlier_sources)
        yield Notice(f"{optimizer}: {what} has changed; {len(old)} older runs are excluded from tables")


def _final_run(
    context: Context, optimizer: str, config: str, seed: int, params: Mapping[str, Any]
) -> TrainingRun:
    specification = context.specification
    plan = final_plan(specification, context.spaces[optimizer], params, seed)
    return TrainingRun(
        kind="final",
        name=RunId(context.files.name, optimizer, config, seed).name,
        optimizer=optimizer,
        plan=plan,
        key=context.key(plan),
        params={"config": config, "seed": seed, **params},
        tags={
            Tag.TARGET: str(specification.target),
            Tag.MARGIN: str(specification.margin),
            Tag.PAPER_SETTING: str(is_paper_setting(specification)).lower(),
            "mlflow.note.content": _description(context, plan, optimizer, config, params),
        },
        dataset="train",
    )


def _finish(context: Context, run: TrainingRun, weights: Weights) -> Flow:
    """Measure the curvature at the end of a run, draw its figures, and log everything.

    The flow returns an OptstudyError if the files of the run could not be made, otherwise None.
    """
    assert run.run_id is not None
    title = f"{context.files.name}/{run.name}"
    curvature = yield from _curvature(context, run, title)
    look = context.spaces[run.optimizer].look
    drawn = yield Task(draw_run, (title, look, run.plan, run.rungs, curvature))
    if isinstance(drawn, OptstudyError):
        return drawn
    files, failed = drawn
    for name, reason in failed.items():
        yield Notice(f"{name} of {title} could not be drawn: {reason}; its data are stored with the run")
    files["weights.pt"] = _to_bytes(weights)
    files["study.json"] = json.dumps(_study_content(context), indent=1).encode()
    context.tracking.log_files(run.run_id, files)
    yield WorkDone(run.name, context.curvature_seconds(run.optimizer, run.plan))
    values = final_metrics(RunResults(run.epochs, run.observations, curvature, context.specification.target))
    at = run.epochs[-1].finished_at
    context.tracking.log_metrics(run.run_id, [(name, value, 0, at) for name, value in values.items()])
    return None


def _curvature(context: Context, run: TrainingRun, title: str) -> Flow:
    """Measure the curvature at the end of a run, and record why it, or the trace of the last steps, is missing.

    The flow returns a CurvatureResult; None if the curvature is not asked for, or could not be measured.
    """
    assert run.run_id is not None
    logged = context.logged_run("final", run.name, run.key)
    tags = {Tag.CURVATURE_PROBLEM: ""} if logged is not None and logged.curvature_problem else {}
    curvature = None
    if run.plan.trace is not None and run.outcome == "completed":
        curvature = yield from context.curvature(run.optimizer, run.plan)
        if isinstance(curvature, OptstudyError):
            yield Notice(
                f"the final curvature of {title} could not be measured: {curvature}; the run keeps its accuracy, and"
                " the same command tries the measurement again"
            )
            tags[Tag.CURVATURE_PROBLEM] = str(curvature)
            curvature = None
        else:
            tags |= {
                Tag.VERDICT: curvature.verdict,
                Tag.SIGN: curvature.sign,
                Tag.CURVATURE_FORMAT: str(curvature.format),
            }
    if problem := trace_problem(run.observations):
        step = next(observation.step for observation in run.observations if observation.problem)
        yield Notice(
            f"the eigenvalues of {title} could not be tracked from step {step:,} on: {problem}; the run keeps its"
            " accuracy, without the trace of its last steps"
        )
        tags[Tag.TRACE_PROBLEM] = problem
    if (changed_at := format_change(run.observations)) is not None:
        yield Notice(
            f"the eigenvalues of {title} were tracked by another version of optstudy before step {changed_at:,}, where"
            " this one begins anew"
        )
    if tags:
        context.tracking.set_tags(run.run_id, tags)
    return curvature


def _fail(context: Context, run: TrainingRun, problem: OptstudyError) -> Flow:
    """Close a run whose end could not be stored; the next command tries it again."""
    assert run.run_id is not None
    context.tracking.set_tags(run.run_id, {Tag.PROBLEM: str(problem)})
    context.tracking.close_run(run.run_id, "failed")
    yield Notice(f"{context.files.name}/{run.name} failed: {problem}", problem=True)


def _study_content(context: Context) -> dict[str, Any]:
    """Return the study's specification without the keys that may grow; all runs log the same file."""
    keys = {key: value for key, value in context.specification.to_keys().items() if not KEYS[key].grows}
    return {"study": context.files.name, "specification": keys}


def _log_model(context: Context, run: TrainingRun, weights: Weights) -> Flow:
    assert run.run_id is not None
    dataset, title = context.dataset(), f"{context.files.name}/{run.name}"
    with temporary_folder() as folder:
        written = folder / "model"
        try:
            model = build_model(run.plan.model, dataset)
            model.load_state_dict(weights)
            save_model(model.eval(), prepare(dataset.test_x[:2]), written)
        except Exception as error:  # tracing a user's model may raise anything; the run is sound
            if unwritten := find_unwritten(error, written):
                raise unwritten from error
            kind = type(error).__name__
            yield Notice(
                f"{title} has no MLflow model, since torch cannot trace it ({kind}); its weights are in weights.pt"
            )
            return
        context.tracking.log_model(run.run_id, written, title.replace("/", "-"))


def _description(context: Context, plan: Plan, optimizer: str, config: str, params: Mapping[str, Any]) -> str:
    source = {
        "best": "chosen by this study's search on validation examples",
        "paper": "the paper's values",
        "default": "the library's defaults",
    }[config]
    values = "\n".join(
        f"| {markdown_code(name)} | {markdown_text(str(value))} |" for name, value in params.items()
    )
    return (
        f"**{markdown_text(context.spaces[optimizer].look.label)}**, configuration *{config}* ({source}),"
        f" seed {plan.seed}.\n\n"
        f"| hyperparameter | value |\n|---|---|\n{values}\n\n"
        f"{markdown_code(plan.model)} on {markdown_code(plan.dataset)}:"
        f" {split_sizes(plan, context.data)[0]:,} training examples,"
        f" {plan.epochs} epoch{'s' * (plan.epochs > 1)} at batch {plan.batch_size};"
        f" {context.data.test:,} test examples, only reported.\n"
    )


def _weights(context: Context, run: TrainingRun) -> Flow:
    """Read the weights at the end of a run; the flow returns an OptstudyError if they cannot be read."""
    state = yield from context.state(run.key, run.trained)
    if isinstance(state, OptstudyError):
        return state
    try:
        return RunState.from_bytes(state).model
    except Exception as error:  # noqa: BLE001  # a user's optimizer may keep objects that no file can hold
        return OptstudyError(f"its state after epoch {run.trained} cannot be read again ({one_line(error)})")


def _to_bytes(weights: Weights) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: tensor.clone() for name, tensor in weights.items()}, buffer)
    return buffer.getvalue()
