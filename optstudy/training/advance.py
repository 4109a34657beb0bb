"""The training loop: `advance` continues a run, without side effects."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from optstudy.errors import one_line
from optstudy.records.plan import Plan, steps_per_epoch
from optstudy.records.run import PROBLEM, EpochRecord, Observation, Rung
from optstudy.training.evaluation import (
    Evaluation,
    batch_gradient_norm,
    evaluate,
    mean_loss,
    sweep,
    weighted,
)
from optstudy.training.generators import seed_generators
from optstudy.training.live import STEP_FUNCTIONS, LiveRun, Passes, build, capture, isolated, restore
from optstudy.training.numerics import machine
from optstudy.training.probes import build_probes
from optstudy.training.state import Probe, RunState, StepContext, outcome
from optstudy.workloads.batches import batches, prepare
from optstudy.workloads.datasets import load, load_description
from optstudy.workloads.splits import LabelledImages, load_split

FAILED = "failed"  # the state of a probe that raised


def start(plan: Plan) -> RunState:
    """Return the state before the first step, with initial weights drawn from the plan's seed."""
    load(plan.dataset)  # before the generators are seeded, since the user's function may seed them, too
    with isolated(plan):
        seed_generators(plan)
        live = build(plan)
        return capture(live, epoch=0, step=0, probes={}, diverged=False)


def advance(state: RunState, plan: Plan, until: int, probes: Sequence[Probe] = ()) -> tuple[RunState, Rung]:
    """Train until the end of epoch ``until``, or until the loss is no longer finite.

    A pure function: the same arguments give bit-identical results in any process, except for clock readings.
    ``state`` is not modified, and global generators, thread count and gradient mode are restored.

    Args:
        state: State of the run, from `start` or an earlier call.
        plan: Plan of the run.
        until: Epoch to reach; at least ``state.epoch`` and at most ``plan.epochs``.
        probes: Probes to call before each step.

    Returns:
        The new state, and the records of the epochs trained.

    Raises:
        ValueError: If ``until`` is out of range.
    """
    if not state.epoch <= until <= plan.epochs:
        raise ValueError(f"until is {until}; the run is at epoch {state.epoch} of {plan.epochs}")
    train, heldout = ((x.to(plan.device), y.to(plan.device)) for x, y in load_split(plan.dataset, plan.split))
    steps = steps_per_epoch(len(train[1]), plan.batch_size)
    records: list[EpochRecord] = []
    observations: list[Observation] = []
    predicted, probe_states = None, dict(state.probes)
    epoch, step, diverged = state.epoch, state.step, state.diverged
    with isolated(plan):
        live = restore(state, plan)
        while epoch < until and not diverged:
            epoch += 1
            started = time.perf_counter()
            running, passes, new_observations = _train_epoch(
                live, plan, epoch, step, train, probes, probe_states
            )
            seconds = time.perf_counter() - started
            step += steps
            observations += new_observations
            evaluation, classes = evaluate(live.model, live.loss, *heldout)
            diverged = not (math.isfinite(running.loss) and math.isfinite(evaluation.loss))
            due = epoch in plan.sweep_epochs or (diverged and plan.sweep_epochs)
            exact = sweep(live.model, live.loss, *train) if due else None
            records.append(_record(plan, epoch, seconds, passes, running, evaluation, exact))
            if diverged or epoch == plan.epochs:
                predicted = tuple(classes.tolist())
        after = capture(live, epoch, step, probe_states, diverged=diverged)
    return after, Rung(tuple(records), tuple(observations), outcome(after, plan), predicted)


def run_rung(plan: Plan, state: bytes | None, since: int, until: int) -> tuple[Rung, bytes]:
    """Train the epochs after ``since`` up to ``until``, from a stored state, or from the start if it is None."""
    before = start(plan) if state is None else RunState.from_bytes(state)
    after, replayed = advance(before, plan, until, build_probes(plan))
    (_, labels), _ = load_split(plan.dataset, plan.split)
    first_step = since * steps_per_epoch(len(labels), plan.batch_size)
    rung = dataclasses.replace(
        replayed,
        epochs=tuple(record for record in replayed.epochs if record.epoch > since),
        observations=tuple(
            observation for observation in replayed.observations if observation.step >= first_step
        ),
        machine=machine(plan),
    )
    return rung, after.to_bytes()


def run_verified_rung(
    checksum: str, plan: Plan, state: bytes | None, since: int, until: int
) -> tuple[Rung, bytes] | None:
    """Run a rung if the data set has the given checksum, otherwise return None; the task of a worker."""
    if load_description(plan.dataset).checksum != checksum:
        return None
    return run_rung(plan, state, since, until)


def _train_epoch(
    live: LiveRun,
    plan: Plan,
    epoch: int,
    first_step: int,
    train: LabelledImages,
    probes: Sequence[Probe],
    probe_states: dict[str, Any],
) -> tuple[Evaluation, Passes, list[Observation]]:
    """Take the steps of an epoch; return the running loss and accuracy, and the last batch's gradient norm."""
    step = STEP_FUNCTIONS[plan.method.needs]
    steps = steps_per_epoch(len(train[1]), plan.batch_size)
    total = torch.zeros((), dtype=torch.float64, device=plan.device)
    correct = torch.zeros((), dtype=torch.int64, device=plan.device)
    observations: list[Observation] = []
    norm, passes = math.nan, Passes(0, 0, 0)
    live.model.train()
    for index, (images, targets) in enumerate(batches(*train, plan.batch_size, plan.seed, epoch)):
        inputs = prepare(images)
        last = index == steps - 1
        context = StepContext(
            first_step + index, last, live.model, live.loss, live.optimizer, inputs, targets
        )
        observed = (_observe(probe, context, probe_states) for probe in probes)
        observations += filter(None, observed)
        if last:
            norm = batch_gradient_norm(context)
        result = step(live, inputs, targets)
        passes += result.passes
        total += weighted(live.loss, result.loss, targets)
        correct += (result.outputs.argmax(1) == targets).sum()
    labels = train[1]
    running = Evaluation(
        mean_loss(live.loss, total, labels), int(correct) / len(labels), norm
    )  # waits for the device
    return running, passes, observations


def _observe(probe: Probe, context: StepContext, states: dict[str, Any]) -> Observation | None:
    """Let a probe observe a step if it is due; one that raises observes no more, and the run goes on without it."""
    if states.get(probe.name) == FAILED:
        return None
    try:
        if not probe.is_due(context):
            return None
        states[probe.name], values = probe.observe(context, states.get(probe.name))
    except Exception as error:  # noqa: BLE001  # a loss without float64, or too little memory, must not cost the run
        states[probe.name], values = FAILED, {PROBLEM: one_line(error)}
    return Observation(probe.name, context.step, _finite_values(values))


def _record(
    plan: Plan,
    epoch: int,
    seconds: float,
    passes: Passes,
    running: Evaluation,
    evaluation: Evaluation,
    exact: Evaluation | None,
) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        train_loss=_finite(running.loss),
        train_accuracy=running.accuracy,
        heldout_loss=_finite(evaluation.loss),
        heldout_accuracy=evaluation.accuracy,
        gradient_norm=_finite(running.gradient_norm),
        seconds=seconds,
        finished_at=time.time(),
        gradients=passes.gradients,
        steps=None if passes.steps == passes.gradients else passes.steps,
        losses=passes.losses,
        hessian_products=passes.steps * plan.method.hessian_products,
        exact_loss=_finite(exact.loss) if exact else None,
        exact_accuracy=exact.accuracy if exact else None,
        full_gradient_norm=_finite(exact.gradient_norm) if exact else None,
    )


def _finite_values(values: Mapping[str, float | str]) -> dict[str, float | str | None]:
    return {name: value if isinstance(value, str) else _finite(value) for name, value in values.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
