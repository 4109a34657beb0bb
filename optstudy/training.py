"""Training as a value: a run is a RunState, and advance moves it on without touching anything else."""

import contextlib
import dataclasses
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from optstudy.data import Dataset, Split, batches, load, load_parts, prepare
from optstudy.errors import UsageError
from optstudy.models import build_model, load_loss
from optstudy.optimizers import build_optimizer

Loss = Callable[[Tensor, Tensor], Tensor]
Outcome = Literal["running", "completed", "diverged"]

EVALUATION_BATCH = 500  # images a chunk where no weights move; larger ones leave the cache of a CPU


@dataclass(frozen=True)
class Method:
    """How a run updates its parameters: an optimizer's class, what it is given, and what its step takes."""

    optimizer: str  # class path
    arguments: Mapping[str, Any]
    needs: str = ""  # "closure": step takes a function that returns the loss; "": backward and step
    seeded: bool = False  # the constructor takes `seed`, and gets the run's
    hessian_products: int = 0  # spent by one step


@dataclass(frozen=True)
class Plan:
    """Everything that determines the numbers of one run."""

    dataset: str
    split: Split
    model: str
    loss: str
    method: Method
    epochs: int
    sweep_epochs: tuple[int, ...]  # after these, an exact sweep over the training set
    batch_size: int
    seed: int  # of the initial weights and the order of the batches: the same for every optimizer
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch of training left behind. A number that is not finite is None."""

    epoch: int  # counted from 1
    train_loss: float | None  # mean over the epoch's batches, while the weights moved
    train_accuracy: float | None  # fraction, likewise
    heldout_loss: float | None
    heldout_accuracy: float  # fraction
    gradient_norm: float | None  # Euclidean norm of the last mini-batch's gradient, where its step was taken
    seconds: float  # training alone
    finished_at: float  # Unix time
    gradients: int  # mini-batch gradients spent by this epoch's steps
    hessian_products: int
    exact_loss: float | None = None  # over the whole training set, weights fixed; None where no sweep was due
    exact_accuracy: float | None = None
    full_gradient_norm: float | None = None

    @property
    def gradient_work(self) -> float:
        """Forward and backward passes of one mini-batch; a Hessian product counts 2."""
        return self.gradients + 2 * self.hessian_products


@dataclass(frozen=True)
class RunState:
    """A run between two epochs, as plain tensors (on the CPU) and numbers."""

    epoch: int
    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    generators: dict[str, Tensor]  # torch's default ones by device type; dropout reads them
    probes: dict[str, Any]
    diverged: bool = False

    def to_bytes(self) -> bytes:
        """Serialise; `from_bytes` gives back the same bits."""
        buffer = io.BytesIO()
        torch.save({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "RunState":
        """Read what `to_bytes` wrote; nothing but tensors and plain values is accepted."""
        return cls(**torch.load(io.BytesIO(data), weights_only=True, map_location="cpu"))


@dataclass(frozen=True)
class Moment:
    """What a probe may look at: a run just before one of its steps."""

    step: int  # counted from 0 over the whole run
    last_of_epoch: bool
    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    inputs: Tensor  # the mini-batch of the step, as the model takes it
    targets: Tensor


class Probe(Protocol):
    """Watches a run, and leaves parameters, gradients, mode, buffers and generators exactly as found."""

    name: str

    def wants(self, moment: Moment) -> bool:
        """Whether to observe this step."""

    def observe(self, moment: Moment, state: Any) -> tuple[Any, Mapping[str, float]]:
        """Return the probe's next state (plain tensors and numbers; the first is None) and what it saw."""


@dataclass(frozen=True)
class Observation:
    """What a probe saw at one step."""

    probe: str
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class History:
    """What `advance` recorded on its way."""

    epochs: tuple[EpochRecord, ...]
    observations: tuple[Observation, ...]
    predicted: Tensor | None  # (n,) classes of the held-out images, once the run has ended


@dataclass(frozen=True)
class Evaluation:
    """A model on some images, weights fixed."""

    loss: float
    accuracy: float  # fraction
    predicted: Tensor  # (n,) int64


@dataclass
class _Live:
    """A run's objects while it moves; built from a RunState and turned back into one."""

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer


def start(plan: Plan) -> RunState:
    """Return the state before the first step: initial weights drawn from the plan's seed, and nothing else."""
    with _isolated(plan):
        torch.manual_seed(plan.seed)
        live = _build(plan)
        return _capture(live, epoch=0, step=0, probes={}, diverged=False)


def advance(
    state: RunState, plan: Plan, until: int, probes: Sequence[Probe] = ()
) -> tuple[RunState, History]:
    """Train until the end of epoch ``until``, or until the loss is no longer finite.

    A pure function: the same arguments give the same bits, whatever process it runs in (clock readings
    apart). ``state`` is not changed, and torch's generators, thread count and gradients are left as found.

    Args:
        state: Where the run stands, from `start` or an earlier call.
        plan: What determines the run.
        until: Epoch to reach; at least ``state.epoch`` and at most ``plan.epochs``.
        probes: What to watch before each step.

    Returns:
        The new state, and the records of the epochs in between.

    Raises:
        ValueError: If ``until`` is out of range.
    """
    if not state.epoch <= until <= plan.epochs:
        raise ValueError(f"until is {until}; the run stands at epoch {state.epoch} of {plan.epochs}")
    parts = load_parts(plan.dataset, plan.split)
    train = parts.train_x.to(plan.device), parts.train_y.to(plan.device)
    heldout = parts.heldout_x.to(plan.device), parts.heldout_y.to(plan.device)
    records: list[EpochRecord] = []
    observations: list[Observation] = []
    predicted, memory = None, dict(state.probes)
    epoch, step, diverged = state.epoch, state.step, state.diverged
    with _isolated(plan):
        live = _restore(state, plan)
        while epoch < until and not diverged:
            epoch += 1
            running, seen = _train_epoch(live, plan, epoch, step, train, probes, memory)
            step += running.steps
            observations += seen
            measured = evaluate(live.model, live.loss, *heldout)
            diverged = not (math.isfinite(running.loss) and math.isfinite(measured.loss))
            due = epoch in plan.sweep_epochs or (diverged and plan.sweep_epochs)
            swept = sweep(live.model, live.loss, *train) if due else None
            records.append(_record(plan, epoch, running, measured, swept))
            if diverged or epoch == plan.epochs:
                predicted = measured.predicted
        return _capture(live, epoch, step, memory, diverged=diverged), History(
            tuple(records), tuple(observations), predicted
        )


def outcome(state: RunState, plan: Plan) -> Outcome:
    """Tell how a run stands."""
    if state.diverged:
        return "diverged"
    return "completed" if state.epoch == plan.epochs else "running"


@torch.no_grad()
def evaluate(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> Evaluation:
    """Mean loss, accuracy and predicted classes over all of ``x`` of shape ``(n, ...)``, in eval mode."""
    with _mode(model, training=False):
        total = torch.zeros((), dtype=torch.float64)
        predicted = []
        for inputs, targets in _chunks(x, y):
            outputs = model(inputs)
            total += loss(outputs, targets).double().cpu() * len(targets)
            predicted.append(outputs.argmax(1))
    classes = torch.cat(predicted)
    return Evaluation(
        loss=float(total) / len(y), accuracy=float((classes == y).double().mean()), predicted=classes.cpu()
    )


def sweep(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[float, float, float]:
    r"""Exact mean loss, accuracy and :math:`\|\nabla L\|_2` over all of ``x``, in eval mode."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradient = [torch.zeros_like(p) for p in parameters]
    total, correct = 0.0, 0
    with _mode(model, training=False):
        for inputs, targets in _chunks(x, y):
            outputs = model(inputs)
            value = loss(outputs, targets)
            share = len(targets) / len(y)
            for kept, part in zip(
                gradient, torch.autograd.grad(value, parameters, allow_unused=True), strict=True
            ):
                if part is not None:
                    kept.add_(part, alpha=share)
            total += float(value.detach()) * share
            correct += int((outputs.argmax(1) == targets).sum())
    return total, correct / len(y), _norm(gradient)


@dataclass(frozen=True)
class Rung:
    """Some epochs of one run, as a worker returns them and as they are kept on disk."""

    epochs: tuple[EpochRecord, ...]
    observations: tuple[Observation, ...]
    outcome: Outcome
    predicted: tuple[int, ...] | None  # classes of the held-out images, once the run has ended


def run_rung(plan: Plan, state: bytes | None, since: int, until: int) -> tuple[Rung, bytes]:
    """Do the epochs after ``since`` up to ``until``, from a stored state or, without one, from the start."""
    before = start(plan) if state is None else RunState.from_bytes(state)
    after, history = advance(before, plan, until)
    rung = Rung(
        epochs=tuple(record for record in history.epochs if record.epoch > since),
        observations=history.observations,
        outcome=outcome(after, plan),
        predicted=None if history.predicted is None else tuple(history.predicted.tolist()),
    )
    return rung, after.to_bytes()


@dataclass(frozen=True)
class _Running:
    """Sums over one epoch of training."""

    loss: float
    accuracy: float
    gradient_norm: float
    seconds: float
    steps: int


def _train_epoch(
    live: _Live,
    plan: Plan,
    epoch: int,
    first_step: int,
    train: tuple[Tensor, Tensor],
    probes: Sequence[Probe],
    memory: dict[str, Any],
) -> tuple[_Running, list[Observation]]:
    step = _STEPS[plan.method.needs]
    steps = steps_per_epoch(len(train[1]), plan.batch_size)
    total = torch.zeros((), dtype=torch.float64, device=plan.device)
    correct = torch.zeros((), dtype=torch.int64, device=plan.device)
    norm, seen, started = math.nan, [], time.perf_counter()
    live.model.train()
    for index, (images, targets) in enumerate(batches(*train, plan.batch_size, plan.seed, epoch)):
        inputs = prepare(images)
        last = index == steps - 1
        moment = Moment(first_step + index, last, live.model, live.loss, live.optimizer, inputs, targets)
        for probe in probes:
            if probe.wants(moment):
                memory[probe.name], values = probe.observe(moment, memory.get(probe.name))
                seen.append(Observation(probe.name, moment.step, values))
        if last:
            norm = batch_gradient_norm(moment)
        value, outputs = step(live, inputs, targets)
        total += value.double() * len(targets)
        correct += (outputs.argmax(1) == targets).sum()
    count = len(train[1])
    mean, accuracy = float(total) / count, int(correct) / count  # waits for the device
    return _Running(mean, accuracy, norm, time.perf_counter() - started, steps), seen


def _plain_step(live: _Live, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    outputs = live.model(inputs)
    value = live.loss(outputs, targets)
    value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    live.optimizer.step()
    live.optimizer.zero_grad(set_to_none=True)
    return value.detach(), outputs.detach()


def _closure_step(live: _Live, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    seen: list[tuple[Tensor, Tensor]] = []

    def closure() -> Tensor:
        outputs = live.model(inputs)
        value = live.loss(outputs, targets)
        seen.append((value.detach(), outputs.detach()))
        return value

    live.optimizer.step(closure)  # type: ignore[arg-type]  # typed for a float; torch itself passes tensors on
    return seen[0]


_STEPS = {"": _plain_step, "closure": _closure_step}


def batch_gradient_norm(moment: Moment) -> float:
    """Euclidean norm of the gradient that the coming step will see, for any optimizer; leaves no trace."""
    model = moment.model
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with _forked_generators(moment.inputs.device):
        outputs = torch.func.functional_call(model, {**parameters, **buffers}, (moment.inputs,))
        value = moment.loss(outputs, moment.targets)
        gradient = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return _norm([part for part in gradient if part is not None])


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Mini-batches in an epoch; the last may be short."""
    return math.ceil(images / batch_size)


def check_device(device: str) -> None:
    """Raise UsageError unless torch can use ``device`` here."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cuda = torch.cuda.device_count()
        known = ["cpu", *(f"cuda:{i}" for i in range(cuda)), *(["mps"] * torch.backends.mps.is_available())]
        raise UsageError(f"device {device!r} is not here; torch finds {', '.join(known)}") from error


@dataclass(frozen=True)
class Rehearsal:
    """What a few steps of a run tell before it starts."""

    train_images: int
    heldout_images: int
    parameters: int
    state_bytes: int
    step_seconds: float
    evaluation_seconds: float  # for one image, weights fixed
    sweep_seconds: float  # for one image, loss and gradient


def rehearse(plan: Plan, steps: int) -> Rehearsal:
    """Time a few steps and evaluations of a run, and find what is wrong with it before hours are spent.

    Raises:
        UsageError: If data, model, loss or optimizer do not fit together.
    """
    check_device(plan.device)
    parts = load_parts(plan.dataset, plan.split)
    state = start(plan)
    few = slice(0, plan.batch_size)
    with _isolated(plan):
        live = _restore(state, plan)
        x, y = prepare(parts.train_x[few].to(plan.device)), parts.train_y[few].to(plan.device)
        _check_fit(plan, load(plan.dataset), live, x, y)
        step = _STEPS[plan.method.needs]
        live.model.train()
        step_seconds = _fastest(lambda: step(live, x, y), steps)
        images = parts.train_x[:EVALUATION_BATCH].to(plan.device)
        labels = parts.train_y[:EVALUATION_BATCH].to(plan.device)
        evaluation = _fastest(lambda: evaluate(live.model, live.loss, images, labels), 2)
        swept = _fastest(lambda: sweep(live.model, live.loss, images, labels), 2)
    return Rehearsal(
        train_images=len(parts.train_y),
        heldout_images=len(parts.heldout_y),
        parameters=sum(p.numel() for p in live.model.parameters() if p.requires_grad),
        state_bytes=len(_capture(live, 0, 0, {}, diverged=False).to_bytes()),
        step_seconds=step_seconds,
        evaluation_seconds=evaluation / len(labels),
        sweep_seconds=swept / len(labels),
    )


def _check_fit(plan: Plan, dataset: Dataset, live: _Live, x: Tensor, y: Tensor) -> None:
    try:
        with torch.no_grad(), _mode(live.model, training=False):
            outputs = live.model(x)
    except (RuntimeError, ValueError, TypeError) as error:
        shape = tuple(x.shape)
        first = str(error).splitlines()[0]
        raise UsageError(f"model {plan.model!r} does not take a batch of shape {shape}: {first}") from error
    wanted = (len(y), len(dataset.classes))
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != wanted:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UsageError(
            f"model {plan.model!r} returns {got} for {len(y)} images of {len(dataset.classes)} classes;"
            f" it must return a tensor of shape {wanted}"
        )
    value = live.loss(outputs, y)
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(
            f"loss {plan.loss!r} returns {got}; it must return one number, the mean over the batch"
        )


def _fastest(action: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times + 1):  # the first one warms up
        started = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return sorted(seconds[1:])[len(seconds[1:]) // 2]


def _build(plan: Plan) -> _Live:
    model = build_model(plan.model, load(plan.dataset)).to(plan.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError(f"model {plan.model!r} has no parameter to train")
    method = plan.method
    optimizer = build_optimizer(
        method.optimizer, method.arguments, parameters, plan.seed if method.seeded else None
    )
    return _Live(model, load_loss(plan.loss), optimizer)


def _restore(state: RunState, plan: Plan) -> _Live:
    live = _build(plan)
    live.model.load_state_dict(state.model)
    # Tensors are cloned: load_state_dict would otherwise share them, and steps would change `state`.
    live.optimizer.load_state_dict(_mapped(state.optimizer, lambda tensor: tensor.clone()))
    torch.set_rng_state(state.generators["cpu"])
    if "cuda" in state.generators:
        torch.cuda.set_rng_state(state.generators["cuda"], plan.device)
    return live


def _capture(live: _Live, epoch: int, step: int, probes: dict[str, Any], *, diverged: bool) -> RunState:
    device = next(live.model.parameters()).device
    generators = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(device)
    on_cpu: Callable[[Tensor], Tensor] = lambda tensor: tensor.detach().cpu()  # noqa: E731  # used twice below
    return RunState(
        epoch=epoch,
        step=step,
        model=_mapped(dict(live.model.state_dict()), on_cpu),
        optimizer=_mapped(live.optimizer.state_dict(), on_cpu),
        generators=generators,
        probes=probes,
        diverged=diverged,
    )


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, function) for item in value)
    return value


def _record(
    plan: Plan,
    epoch: int,
    running: _Running,
    measured: Evaluation,
    swept: tuple[float, float, float] | None,
) -> EpochRecord:
    exact_loss, exact_accuracy, full_norm = swept or (None, None, None)
    return EpochRecord(
        epoch=epoch,
        train_loss=_finite(running.loss),
        train_accuracy=running.accuracy,
        heldout_loss=_finite(measured.loss),
        heldout_accuracy=measured.accuracy,
        gradient_norm=_finite(running.gradient_norm),
        seconds=running.seconds,
        finished_at=time.time(),
        gradients=running.steps,
        hessian_products=running.steps * plan.method.hessian_products,
        exact_loss=_finite(exact_loss),
        exact_accuracy=exact_accuracy,
        full_gradient_norm=_finite(full_norm),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def _chunks(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, len(y), EVALUATION_BATCH):
        yield prepare(x[first : first + EVALUATION_BATCH]), y[first : first + EVALUATION_BATCH]


@contextlib.contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    found = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was in found.items():
            module.training = was


@contextlib.contextmanager
def _isolated(plan: Plan) -> Iterator[None]:
    """Give the run its own generators and thread count, and put the caller's back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        with _forked_generators(torch.device(plan.device)), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def _forked_generators(device: torch.device) -> contextlib.AbstractContextManager[None]:
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
