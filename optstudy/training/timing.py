"""Time the steps of a run."""

import itertools
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from optstudy.records.plan import Plan
from optstudy.training.advance import start
from optstudy.training.live import STEP_FUNCTIONS, isolated, restore
from optstudy.workloads.batches import batches, prepare
from optstudy.workloads.splits import load_split

WARMUP_STEPS = 10  # untimed steps at the start


def time_steps(plan: Plan, steps: int) -> float:
    """Return the mean seconds per step of a run, including gathering and preparing its mini-batch.

    Args:
        plan: Plan of the run, which determines the initial weights and the mini-batches.
        steps: Number of timed steps.
    """
    (images, labels), _ = load_split(plan.dataset, plan.split)
    x, y = images.to(plan.device), labels.to(plan.device)
    state = start(plan)
    with isolated(plan):
        live = restore(state, plan)
        step = STEP_FUNCTIONS[plan.method.needs]
        live.model.train()
        for inputs, targets in itertools.islice(_mini_batches(plan, x, y), WARMUP_STEPS):
            step(live, prepare(inputs), targets)
        synchronize(plan)
        started = time.perf_counter()
        for inputs, targets in itertools.islice(_mini_batches(plan, x, y), steps):
            step(live, prepare(inputs), targets)
        synchronize(plan)
        return (time.perf_counter() - started) / steps


def _mini_batches(plan: Plan, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for epoch in itertools.count(1):
        yield from batches(x, y, plan.batch_size, plan.seed, epoch)


def synchronize(plan: Plan) -> None:
    """Wait for the device."""
    if torch.device(plan.device).type == "cuda":
        torch.cuda.synchronize(plan.device)
