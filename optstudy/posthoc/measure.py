"""The curvature of runs and checkpoints on samples of any size, and how it depends on the sample."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from optstudy.curvature import expand, objective, top_eigenpairs
from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Failure, Flow, Fork, Task, Workers, drive
from optstudy.posthoc.checkpoints import load_weights
from optstudy.records.curvature import Measured
from optstudy.records.plan import Plan
from optstudy.training import Images, advance, images_of, numerics, sample_images, start
from optstudy.training.analysis import analyse
from optstudy.workloads import load, load_parts
from optstudy.workloads.models import build_model, load_loss
from optstudy.workloads.user_code import told


@dataclass(frozen=True)
class Subject:
    """Weights to measure: those given, or those that a plan leads to at an epoch."""

    name: str  # of a run, or a file
    plan: Plan
    weights: bytes | None  # a state_dict as torch.save writes it
    optimizer: str = ""  # its name in the study
    epoch: int | None = None  # to train to, where there are no weights
    at: str = "end"


@dataclass(frozen=True)
class Choice:
    """Which training images to measure on."""

    count: int | None  # None for all
    seed: int = 0
    indices: tuple[int, ...] | None = None  # these instead


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    k: int = 2
    dtype: str | None = None  # float32 or float64; None for the model's own, and float64 where it needs it
    density: bool = False  # also the spectrum and the trace
    landscape: bool = False  # also the loss along the first two eigenvectors

    @property
    def analysis(self) -> bool:
        """Whether more than eigenvalues is measured."""
        return self.density or self.landscape


def measure_all(
    subjects: Sequence[Subject], choices: Sequence[Choice], settings: Settings, workers: Workers
) -> Iterator[Measured | Failure]:
    """Measure every subject on every sample, yielding each as it is done."""
    yield from drive([_subject_flow(subject, choices, settings) for subject in subjects], workers)


def _subject_flow(subject: Subject, choices: Sequence[Choice], settings: Settings) -> Flow:
    if subject.weights is None:
        assert subject.epoch is not None
        weights = yield Task(weights_at, (subject.plan, subject.epoch), cost=math.inf)
        if isinstance(weights, Failure):
            yield weights
            return
        subject = replace(subject, weights=weights)
    yield Fork(tuple(_choice_flow(subject, choice, settings) for choice in choices))


def _choice_flow(subject: Subject, choice: Choice, settings: Settings) -> Flow:
    result = yield Task(measure, (subject, choice, settings), cost=choice.count or math.inf)
    yield result


def weights_at(plan: Plan, epoch: int) -> bytes:
    """Train to the end of an epoch, as the run did; a worker's task."""
    state, _ = advance(start(plan), plan, epoch)
    buffer = io.BytesIO()
    torch.save(state.model, buffer)
    return buffer.getvalue()


def measure(subject: Subject, choice: Choice, settings: Settings) -> Measured:
    """Measure one subject on one sample; a worker's task.

    Raises:
        OptstudyError: If that cannot be done; the message names the subject.
    """
    try:
        with numerics(subject.plan):
            return _measured(subject, choice, settings)
    except OptstudyError:
        raise
    except Exception as error:  # of a user's model or loss, or of the library about them
        reason = told(error, subject.plan.model)
        raise OptstudyError(f"{subject.name}: its curvature cannot be measured: {reason}") from error


def _measured(subject: Subject, choice: Choice, settings: Settings) -> Measured:
    plan = subject.plan
    model, loss, images = _model(subject), load_loss(plan.loss), chosen_images(plan, choice)
    dtype = None if settings.dtype is None else getattr(torch, settings.dtype)
    at = objective(model, loss, images, dtype=dtype)
    wanted = max(settings.k, 2 * settings.analysis)  # landscapes and ratio are of two
    if at.dim < wanted:
        raise UsageError(
            f"{subject.name} has {at.dim} parameter{'s' * (at.dim != 1)}, so there are no {wanted} eigenvalues"
        )
    around = expand(at)
    pairs = top_eigenpairs(around.hessian, k=settings.k)
    ratio = pairs.ratio if settings.k > 1 else None
    return Measured(
        name=subject.name,
        optimizer=subject.optimizer,
        at=subject.at,
        samples=len(images.y) if isinstance(images, Images) else len(images[1]),
        seed=choice.seed,
        eigenvalues=tuple(pairs.values.tolist()),
        residuals=tuple(pairs.residuals.tolist()),
        ratio=ratio.value if ratio else math.nan,
        low=ratio.low if ratio else math.nan,
        high=ratio.high if ratio else math.nan,
        verdict=ratio.verdict if ratio else "unresolved",
        products=pairs.products,
        converged=pairs.converged,
        probability=pairs.check.probability if pairs.check else math.nan,
        dtype=str(pairs.dtype).removeprefix("torch."),
        operator=pairs.operator,
        loss=around.loss,
        gradient_norm=float(around.gradient.cpu().double().norm()),
        analysis=analyse(
            model, loss, images, spectrum=settings.density, landscape=settings.landscape, dtype=dtype
        )
        if settings.analysis
        else None,
    )


def _model(subject: Subject) -> nn.Module:
    plan = subject.plan
    assert subject.weights is not None
    weights = torch.load(io.BytesIO(subject.weights), weights_only=True, map_location="cpu")
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise OptstudyError(f"{subject.name}: its weights are not all finite numbers; it has diverged")
    model = build_model(plan.model, load(plan.dataset))
    if load_weights(model, weights, subject.name):
        raise UsageError(
            f"{subject.name}: the model's parameters had other names when it was trained, so it is another model now;"
            " --checkpoint reads the run's weights.pt all the same"
        )
    return model.to(plan.device).eval()


def chosen_images(plan: Plan, choice: Choice) -> Images | tuple[Tensor, Tensor]:
    """Return the training images of a choice."""
    parts = load_parts(plan.dataset, plan.split)
    if choice.indices is None:
        return sample_images(parts, choice.count, choice.seed, plan.device)
    places = torch.tensor(choice.indices)
    return images_of(parts.train_x[places], parts.train_y[places], plan.device)
