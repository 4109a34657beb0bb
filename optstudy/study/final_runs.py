"""Final runs as flows: train a configuration on all training images, and log it as it goes."""

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from optstudy.execution.flows import Failure, Flow, Task
from optstudy.records.metrics import final_metrics, spent_to_target, step_metrics
from optstudy.records.naming import final_name, label_of
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, Observation, Rung
from optstudy.study.artifacts import Ended, draw
from optstudy.study.context import Context
from optstudy.study.estimate import split_sizes
from optstudy.study.events import Notice, Problem, Progress, RunEnded
from optstudy.study.plans import final_plan, is_paper_setting
from optstudy.tracking import save_model
from optstudy.training import RunState
from optstudy.workloads import prepare
from optstudy.workloads.models import build_model


@dataclass(frozen=True)
class FinalTask:
    """A final run to do."""

    optimizer: str
    config: str
    seed: int
    params: Mapping[str, Any]
    with_model: bool  # also log a model that MLflow can load

    @property
    def name(self) -> str:
        """The run's name inside its study."""
        return final_name(self.optimizer, self.config, self.seed)


def final_flow(context: Context, task: FinalTask) -> Flow:
    """Train one configuration from one seed, an epoch a rung."""
    plan = final_plan(context.specification, context.spaces[task.optimizer], task.params, task.seed)
    known = context.known_run("final", task.name, plan)
    if known is not None and known.finished:
        whole = context.seconds(task.optimizer, plan, 0, plan.epochs)
        whole += context.curvature_seconds(task.optimizer, plan)
        yield Progress(task.name, whole, before=True)
        return
    run_id, records, seen, machines, rung = None, [], [], [], None
    try:
        for epoch in range(1, plan.epochs + 1):
            rung = yield from context.rung(task.optimizer, plan, epoch - 1, epoch, last=epoch == plan.epochs)
            if isinstance(rung, Failure):
                yield Problem(f"{context.files.name}/{task.name} failed: {rung.message}")
                break
            records += rung.epochs
            seen += rung.observations
            machines.append(rung.machine)
            run_id = run_id or _open(context, task, plan, rung)
            context.tracking.log_epochs(run_id, rung.epochs, "test")
            at = rung.epochs[-1].finished_at
            steps = [(name, value, step, at) for name, value, step in step_metrics(rung.observations)]
            context.tracking.log_metrics(run_id, steps)
            yield Progress(task.name, context.seconds(task.optimizer, plan, epoch - 1, epoch), records[-1])
            if rung.outcome != "running":
                yield Progress(task.name, context.seconds(task.optimizer, plan, epoch, plan.epochs))
                break
        if isinstance(rung, Rung):
            assert run_id is not None
            context.tracking.set_tags(run_id, context.facts(plan, machines))
            yield from _finish(context, task, plan, run_id, records, seen, rung)
            last = records[-1]
            yield RunEnded(task.name, rung.outcome, last.exact_accuracy or 0.0, last.heldout_accuracy)
        elif run_id is not None:
            context.tracking.close_run(run_id, "failed")
        run_id = None
    finally:
        if run_id is not None:
            context.tracking.interrupt_run(run_id)


def superseded(context: Context, optimizer: str, config: str, params: Mapping[str, Any]) -> Flow:
    """Tag the final runs of a configuration that is no longer the one asked for."""
    prefix = final_name(optimizer, config, 0).removesuffix("0")
    old = []
    for name, known in context.known[context.experiment("final")].items():
        if not name.startswith(prefix):
            continue
        seed = int(name.removeprefix(prefix))
        plan = final_plan(context.specification, context.spaces[optimizer], params, seed)
        if known.key != context.key(plan):
            context.tracking.set_tags(known.run_id, {"optstudy.superseded": "true"})
            old.append(name)
    if old:
        yield Notice(
            f"{optimizer}: another configuration is best now; {len(old)} older runs are left out of tables"
        )


def _open(context: Context, task: FinalTask, plan: Plan, rung: Rung) -> str:
    first = rung.epochs[0]
    run_id = context.tracking.open_run(
        context.experiment("final"),
        task.name,
        key=context.key(plan),
        tags={
            "optstudy.study": context.files.name,
            "optstudy.kind": "final",
            "optstudy.target": str(context.specification.target),
            "optstudy.margin": str(context.specification.margin),
            "optstudy.paper_setting": str(is_paper_setting(context.specification)).lower(),
            "mlflow.note.content": _description(context, task, plan),
            **context.facts(plan, [rung.machine]),
        },
        params={"optimizer": task.optimizer, "config": task.config, "seed": task.seed, **task.params},
        started_at=first.finished_at - first.seconds,
        known=context.known_run("final", task.name, plan),
    )
    context.tracking.log_dataset(run_id, context.data, "train")
    return run_id


def _finish(
    context: Context,
    task: FinalTask,
    plan: Plan,
    run_id: str,
    records: list[EpochRecord],
    seen: list[Observation],
    rung: Rung,
) -> Flow:
    last, title = records[-1], f"{context.files.name}/{task.name}"
    state = context.rungs.state(context.key(plan), last.epoch)
    assert state is not None  # asked for with last=True
    weights = RunState.from_bytes(state).model
    curvature = None
    if plan.trace is not None and rung.outcome == "completed":
        curvature = yield from context.curvature(task.optimizer, plan)
        if isinstance(curvature, Failure):
            yield Notice(f"the curvature where {title} ended could not be measured: {curvature.message}")
            curvature = None
        else:
            context.tracking.set_tags(run_id, {"optstudy.ratio_verdict": curvature.verdict})
    assert rung.predicted is not None
    ended = Ended(title, task.optimizer, plan, tuple(records), tuple(seen), rung.predicted, curvature)
    drawn = yield Task(draw, (ended,))
    if isinstance(drawn, Failure):
        raise drawn.error()
    for name, reason in drawn.failed.items():
        yield Notice(f"{name} of {title} could not be drawn: {reason}; the data behind it are in the run")
    context.tracking.log_files(run_id, {**drawn.files, "weights.pt": _torch_bytes(weights)})
    yield Progress(task.name, context.curvature_seconds(task.optimizer, plan))
    if task.with_model:
        yield from _log_model(context, plan, run_id, weights, title)
    values = {
        **final_metrics(records, seen, curvature),
        "final/seconds": sum(record.seconds for record in records),
        **spent_to_target(records, context.specification.target),
    }
    context.tracking.log_metrics(
        run_id, [(name, value, 0, last.finished_at) for name, value in values.items()]
    )
    context.tracking.close_run(run_id, rung.outcome, last.finished_at)


def _log_model(
    context: Context, plan: Plan, run_id: str, weights: dict[str, torch.Tensor], title: str
) -> Flow:
    dataset = context.dataset()
    model = build_model(plan.model, dataset)
    model.load_state_dict(weights)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "model")
        try:
            save_model(model.eval(), prepare(dataset.test_x[:2]), written)
        except Exception as error:  # noqa: BLE001  # tracing a user's model may raise anything; the run is sound
            kind = type(error).__name__
            yield Notice(
                f"{title} has no MLflow model, since torch cannot trace it ({kind}); weights.pt holds it"
            )
            return
        context.tracking.log_model(run_id, written, title.replace("/", "-"))


def _description(context: Context, task: FinalTask, plan: Plan) -> str:
    chosen = {
        "best": "chosen by this study's search on validation images",
        "paper": "the paper's values",
        "default": "the library's defaults",
    }[task.config]
    values = "\n".join(f"| `{name}` | {value} |" for name, value in task.params.items())
    return (
        f"**{label_of(task.optimizer)}**, configuration *{task.config}* ({chosen}), seed {task.seed}.\n\n"
        f"| hyperparameter | value |\n|---|---|\n{values}\n\n"
        f"`{plan.model}` on `{plan.dataset}`: {split_sizes(plan, context.data)[0]:,} training images,"
        f" {plan.epochs} epoch{'s' * (plan.epochs > 1)} at batch {plan.batch_size}; {context.data.test:,} test images,"
        " only reported.\n"
    )


def _torch_bytes(weights: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: tensor.clone() for name, tensor in weights.items()}, buffer)
    return buffer.getvalue()
