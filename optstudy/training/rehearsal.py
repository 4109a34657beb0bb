"""Rehearse a run before it starts: prove in small that it can train, stop, resume and be measured; time its steps."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from optstudy.curvature import check_second_derivatives, check_symmetry, hessian
from optstudy.curvature.losses import batch_weight, loss_denominator
from optstudy.curvature.objective import eval_mode, supports
from optstudy.errors import UsageError, first_line, one_line
from optstudy.optimizers import OptimizerError, build_optimizer
from optstudy.records.plan import Plan, Trace
from optstudy.training.advance import start
from optstudy.training.denominator import check_denominator
from optstudy.training.evaluation import EVALUATION_BATCH, evaluate, sweep
from optstudy.training.fit import MiniBatch, check_fit, check_second_pass, mini_batches
from optstudy.training.generators import forked_generators
from optstudy.training.live import LiveRun, Passes, isolated, restore
from optstudy.training.probes import sample_images
from optstudy.training.resumption import (
    CLOSURE_CONVENTION,
    Resumption,
    prove_resumption,
    repeats_bits,
    take_step,
)
from optstudy.training.shared import shared_numbers
from optstudy.training.state import RunState
from optstudy.training.stored import same
from optstudy.training.timing import synchronize
from optstudy.workloads.splits import LabelledImages, load_split

STEPS = 14  # taken once without a break, and once with a break in the middle


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
    """Sizes and timings of a run, measured before it starts, and what was proved."""

    train_images: int
    heldout_images: int
    parameters: int
    state_bytes: int
    step_seconds: float
    evaluation_seconds: float  # per image, at fixed weights
    sweep_seconds: float  # per image, loss and gradient
    product_seconds: float = 0.0  # per Hessian-vector product on the sample; 0 without curvature
    proofs: tuple[str, ...] = ()  # what was proved, one sentence each
    seconds: float = 0.0  # of the rehearsal itself
    remarks: tuple[str, ...] = ()  # what may not be meant, one sentence each
    corrected: bool = False  # whether format 3 computed its state, its work or its losses otherwise


def rehearse(plan: Plan, trial: Plan | None = None, variants: Mapping[str, Plan] | None = None) -> Rehearsal:
    """Prove in small that a run can train, stop, resume and be measured, and time it.

    Args:
        plan: Plan of a final run.
        trial: Plan of a trial of the same optimizer, whose mini-batches are tried too; None if there are none.
        variants: Plans with other hyperparameters, by what they are, each of which takes one step.

    Raises:
        UsageError: If data, model, loss and optimizer do not fit together, or a run would lose its state.
    """
    started = time.perf_counter()
    check_device(plan.device)
    train, heldout = load_split(plan.dataset, plan.split)
    state = start(plan)
    batches = _batches(plan, trial)
    with isolated(plan):
        live = restore(state, plan)
        value = check_fit(plan, live, batches[:4])
        check_denominator(plan.loss, live.model, live.loss, *train)
        before = shared_numbers(live.optimizer, live.loss, *live.model.modules())
        try:
            resumption = prove_resumption(plan, state, batches)
        finally:  # it explains that a run does not resume
            _check_not_shared(before, shared_numbers(live.optimizer, live.loss, *live.model.modules()))
        _check_moved(plan, live.model, state, resumption.end)
        _check_variants(plan, state, variants or {}, batches[0])
        live = restore(state, plan)
        images, labels = (tensor[:EVALUATION_BATCH].to(plan.device) for tensor in train)
        evaluation = _median_seconds(plan, lambda: evaluate(live.model, live.loss, images, labels), 2)
        swept = _median_seconds(plan, lambda: sweep(live.model, live.loss, images, labels), 2)
        twice = resumption.twice or plan.method.hessian_products > 0
        if twice:
            _check_second_derivative(plan, state, batches[0])
        product = 0.0 if plan.trace is None else _product_seconds(plan, plan.trace, train, live)
        check_second_pass(plan, live, images)
    return Rehearsal(
        train_images=len(train[1]),
        heldout_images=len(heldout[1]),
        parameters=sum(p.numel() for p in live.model.parameters() if p.requires_grad),
        state_bytes=len(resumption.end.to_bytes()),
        step_seconds=resumption.step_seconds,
        evaluation_seconds=evaluation / len(labels),
        sweep_seconds=swept / len(labels),
        product_seconds=product,
        proofs=_proofs(plan, batches, value, len(variants or {}), twice=twice),
        seconds=time.perf_counter() - started,
        remarks=_remarks(plan, state, resumption, twice=twice),
        corrected=resumption.beyond_state_dicts
        or resumption.passes != Passes(STEPS, STEPS, 0)
        or any(batch_weight(loss_denominator(live.loss), y) != len(y) for y in (labels, batches[0].y)),
    )


def _batches(plan: Plan, trial: Plan | None) -> list[MiniBatch]:
    """Return the mini-batches of the rehearsed steps, beginning with the first and last of each kind of run."""
    own = mini_batches(plan, STEPS)
    tried = [] if trial is None else mini_batches(trial, 2)
    batches = [*own[:2], *tried, *own[2:]]
    return (batches * STEPS)[:STEPS]


def _check_not_shared(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    changed = [name for name, value in after.items() if not same(value, before.get(name))]
    if changed:
        raise UsageError(
            f"{changed[0]} changes while a run trains, and all runs of a process share it; keep what a run needs in"
            " attributes of the optimizer, or in buffers of the model"
        )


def _check_moved(plan: Plan, model: nn.Module, before: RunState, after: RunState) -> None:
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if all(same(before.model[name], after.model[name]) for name in names):
        reason = (
            CLOSURE_CONVENTION
            if plan.method.needs == "closure"
            else "check its learning rate, and that step uses .grad"
        )
        raise OptimizerError(f"{plan.method.optimizer} moves no weight in {STEPS} steps; {reason}")


def _check_variants(plan: Plan, state: RunState, variants: Mapping[str, Plan], batch: MiniBatch) -> None:
    """Take one step with each of other hyperparameters; a loss that grows is no fault."""
    live = restore(state, plan)
    parameters = [p for p in live.model.parameters() if p.requires_grad]
    for name, variant in variants.items():
        method = variant.method
        live.model.load_state_dict(state.model)
        try:
            seed = variant.seed if method.seeded else None
            live.optimizer = build_optimizer(method.optimizer, method.arguments, parameters, seed)
            with forked_generators(batch.x.device):
                take_step(variant, live, batch)
        except OptimizerError as error:
            raise OptimizerError(f"{name}: {error}") from error
        except Exception as error:
            raise OptimizerError(
                f"{name}: a step of {method.optimizer} fails with {one_line(error)}"
            ) from error


def _check_second_derivative(plan: Plan, state: RunState, batch: MiniBatch) -> None:
    """Check the second derivative of the model for an optimizer that uses it."""
    live = restore(state, plan)
    try:
        check_second_derivatives(live.model, live.loss, (batch.x, batch.y))
    except (RuntimeError, NotImplementedError, ValueError, TypeError, ArithmeticError) as error:
        raise UsageError(
            f"{plan.method.optimizer} differentiates twice, which model {plan.model!r} with loss {plan.loss!r} does not"
            f" support: {first_line(error)}"
        ) from error


def _remarks(plan: Plan, state: RunState, resumption: Resumption, *, twice: bool) -> tuple[str, ...]:
    remarks = []
    if not resumption.passes.gradients:
        remarks.append(
            f"{plan.method.optimizer} computes no gradient of the losses that its closure returns; a closure that is to"
            " call backward is not supported yet"
        )
    tensors = (value for value in resumption.end.model.values() if isinstance(value, Tensor))
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        remarks.append(
            f"the weights are not finite after {STEPS} steps with the default values of {plan.method.optimizer}"
        )
    if same(state.model, start(replace(plan, seed=plan.seed + 1)).model):
        remarks.append(
            f"model {plan.model!r} starts from the same weights whatever the seed, so that seeds differ in the order of"
            " the batches alone; draw the weights from torch's global generator, without seeding it"
        )
    if twice and not plan.method.hessian_products:
        remarks.append(
            f"{plan.method.optimizer} keeps the graph of its gradients, as Hessian products need, but its work counts"
            " none; give hessian_products, the number of products in a step, in its space file"
        )
    return tuple(remarks)


def _product_seconds(plan: Plan, trace: Trace, train: LabelledImages, live: LiveRun) -> float:
    """Time a Hessian product on part of the sample, and check that the model supports it, also in float64."""
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
        if operator.in_dtype is not None and supports(operator.device, torch.float64):
            operator.in_dtype(torch.float64) @ vector.double()
        return _median_seconds(plan, lambda: operator @ vector, 2) * size / count
    except (RuntimeError, NotImplementedError, ValueError, TypeError, ArithmeticError) as error:
        raise UsageError(
            f"the curvature of model {plan.model!r} with loss {plan.loss!r} cannot be measured: {first_line(error)};"
            " use --samples 0 to skip it"
        ) from error


def _proofs(
    plan: Plan, batches: Sequence[MiniBatch], loss: float, variants: int, *, twice: bool
) -> tuple[str, ...]:
    sizes: dict[str, list[MiniBatch]] = {}
    for batch in batches[:4]:
        sizes.setdefault(batch.run, []).append(batch)
    runs = (
        f"{run} ({' and '.join(str(len(batch.y)) for batch in own)} of {own[0].images:,} examples)"
        for run, own in sizes.items()
    )
    same_weights = "the same bits" if repeats_bits(plan) else "nearly the same weights"
    proofs = [
        f"the loss is finite at the initial weights ({loss:.4g})",
        f"it trains on the first and the last mini-batch of {' and of '.join(runs)}",
        f"the weights move, and {STEPS} steps give {same_weights} as {STEPS // 2}, a file and {STEPS // 2} more",
        "a second pass over the data gives the same outputs",
    ]
    if variants:
        proofs.append(
            f"a step succeeds at each end of a range and with each choice, {variants} configurations"
        )
    if twice:
        proofs.append("its second derivative is symmetric")
    if plan.trace is not None:
        double = " and in float64" * supports(torch.device(plan.device), torch.float64)
        proofs.append(f"a Hessian product can be computed in the model's precision{double}")
    return tuple(proofs)


def _median_seconds(plan: Plan, action: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times + 1):  # the first call warms up
        started = time.perf_counter()
        action()
        synchronize(plan)
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])
