"""Rehearse a run before it starts: check that model, data, loss and optimizer fit together, and time a few steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from optstudy.curvature import check_symmetry, hessian
from optstudy.curvature.objective import eval_mode
from optstudy.errors import UsageError
from optstudy.records.plan import Plan, Trace
from optstudy.training.advance import start
from optstudy.training.denominator import check_denominator
from optstudy.training.evaluation import EVALUATION_BATCH, evaluate, sweep
from optstudy.training.live import STEP_FUNCTIONS, LiveRun, capture, isolated, restore
from optstudy.training.probes import sample_images
from optstudy.workloads.batches import prepare
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.datasets import load
from optstudy.workloads.splits import LabelledImages, load_split


def check_device(device: str) -> None:
    """Raise UsageError unless torch can use ``device`` on this machine."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cuda = torch.cuda.device_count()
        known = ["cpu", *(f"cuda:{i}" for i in range(cuda)), *(["mps"] * torch.backends.mps.is_available())]
        raise UsageError(
            f"device {device!r} is not available; the available ones are {', '.join(known)}"
        ) from error


@dataclass(frozen=True)
class Rehearsal:
    """Sizes and timings of a run, measured before it starts."""

    train_images: int
    heldout_images: int
    parameters: int
    state_bytes: int
    step_seconds: float
    evaluation_seconds: float  # per image, at fixed weights
    sweep_seconds: float  # per image, loss and gradient
    product_seconds: float = 0.0  # per Hessian-vector product on the sample; 0 without curvature


def rehearse(plan: Plan, steps: int) -> Rehearsal:
    """Time a few steps and evaluations of a run, and detect its errors before it starts.

    Raises:
        UsageError: If data, model, loss and optimizer do not fit together.
    """
    check_device(plan.device)
    train, heldout = load_split(plan.dataset, plan.split)
    state = start(plan)
    batch = slice(0, plan.batch_size)
    with isolated(plan):
        live = restore(state, plan)
        x, y = prepare(train[0][batch].to(plan.device)), train[1][batch].to(plan.device)
        _check_fit(plan, load(plan.dataset), live, x, y)
        check_denominator(plan.loss, live.model, live.loss, *train)
        step = STEP_FUNCTIONS[plan.method.needs]
        live.model.train()
        step_seconds = _median_seconds(lambda: step(live, x, y), steps)
        images, labels = (tensor[:EVALUATION_BATCH].to(plan.device) for tensor in train)
        evaluation = _median_seconds(lambda: evaluate(live.model, live.loss, images, labels), 2)
        swept = _median_seconds(lambda: sweep(live.model, live.loss, images, labels), 2)
        product = 0.0 if plan.trace is None else _product_seconds(plan, plan.trace, train, live)
    return Rehearsal(
        train_images=len(train[1]),
        heldout_images=len(heldout[1]),
        parameters=sum(p.numel() for p in live.model.parameters() if p.requires_grad),
        state_bytes=len(capture(live, 0, 0, {}, diverged=False).to_bytes()),
        step_seconds=step_seconds,
        evaluation_seconds=evaluation / len(labels),
        sweep_seconds=swept / len(labels),
        product_seconds=product,
    )


def _product_seconds(plan: Plan, trace: Trace, train: LabelledImages, live: LiveRun) -> float:
    """Time a Hessian product on part of the sample, and check that the model supports it."""
    size = len(train[1]) if trace.samples is None else min(trace.samples, len(train[1]))
    count = min(size, EVALUATION_BATCH)
    images = sample_images(train, count, trace.seed, plan.device)
    try:
        with eval_mode(live.model):
            operator = hessian(live.model, live.loss, images)
        if operator.dim < 2:  # noqa: PLR2004  # a ratio needs two
            raise ValueError("it has 1 parameter, and the ratio needs two eigenvalues")  # noqa: TRY301
        check_symmetry(operator)
        vector = torch.ones(operator.dim, dtype=operator.dtype, device=operator.device)
        return _median_seconds(lambda: operator @ vector, 2) * size / count
    except (RuntimeError, NotImplementedError, ValueError, TypeError, ArithmeticError) as error:
        raise UsageError(
            f"the curvature of model {plan.model!r} with loss {plan.loss!r} cannot be measured: {_first_line(error)};"
            " use --samples 0 to skip it"
        ) from error


def _check_fit(plan: Plan, dataset: Dataset, live: LiveRun, x: Tensor, y: Tensor) -> None:
    try:
        with torch.no_grad(), eval_mode(live.model):
            outputs = live.model(x)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"model {plan.model!r} does not accept a batch of shape {tuple(x.shape)}: {_first_line(error)}"
        ) from error
    expected = (len(y), len(dataset.classes))
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != expected:
        returned = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UsageError(
            f"model {plan.model!r} returns {returned} for {len(y)} images of {len(dataset.classes)} classes;"
            f" it must return a tensor of shape {expected}"
        )
    try:
        value = live.loss(outputs, y)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"loss {plan.loss!r} does not accept outputs of shape {expected} with labels: {_first_line(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.ndim != 0:
        returned = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(
            f"loss {plan.loss!r} returns {returned}; it must return one number, the mean over the batch"
        )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _median_seconds(action: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times + 1):  # the first call warms up
        started = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])
