"""The curvature of runs and checkpoints on samples of any size, and how it depends on the sample."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from optstudy.analysis import Analysis, analyse
from optstudy.curvature import expand, objective, top_eigenpairs
from optstudy.data import load, load_parts, sample
from optstudy.errors import UsageError
from optstudy.flows import Failure, Flow, Fork, Task, Workers, drive
from optstudy.models import build_model, load_loss
from optstudy.training import Images, Plan, advance, images_of, start


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
    analysis: bool = False  # also spectrum, trace and landscapes


@dataclass(frozen=True)
class Measured:
    """What was measured of one subject on one sample."""

    name: str
    optimizer: str
    at: str
    samples: int
    seed: int
    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    ratio: float
    low: float
    high: float
    verdict: str
    products: int
    converged: bool
    probability: float  # of a missed eigenvalue, at most
    dtype: str
    operator: str
    loss: float
    gradient_norm: float
    vectors: Tensor | None = None  # (k, n); kept where asked for with the analysis
    analysis: Analysis | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints; a number that is not finite is None."""
        shown = {
            "run": self.name,
            "at": self.at,
            "eigenvalues": list(self.eigenvalues),
            "residuals": list(self.residuals),
            "ratio": {
                "value": _finite(self.ratio),
                "low": _finite(self.low),
                "high": _finite(self.high),
                "verdict": self.verdict,
            },
            "products": self.products,
            "converged": self.converged,
            "missed_probability": _finite(self.probability),
            "dtype": self.dtype,
            "operator": self.operator,
            "samples": self.samples,
            "sample_seed": self.seed,
            "loss": self.loss,
            "gradient_norm": self.gradient_norm,
        }
        if self.analysis is not None:
            value, low, high = self.analysis.trace.tolist()
            shown["trace"] = {"value": value, "low": low, "high": high}
            shown["loss_rise"] = self.analysis.loss_rise
        return shown


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
    """Measure one subject on one sample; a worker's task."""
    plan = subject.plan
    torch.set_num_threads(plan.threads)
    assert subject.weights is not None
    model = build_model(plan.model, load(plan.dataset)).to(plan.device)
    model.load_state_dict(
        torch.load(io.BytesIO(subject.weights), weights_only=True, map_location=plan.device)
    )
    model.eval()
    loss, images = load_loss(plan.loss), chosen_images(plan, choice)
    dtype = None if settings.dtype is None else getattr(torch, settings.dtype)
    around = expand(objective(model, loss, images, dtype=dtype))
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
        gradient_norm=float(around.gradient.double().norm()),
        vectors=pairs.vectors.cpu() if settings.analysis else None,
        analysis=analyse(model, loss, images) if settings.analysis else None,
    )


def chosen_images(plan: Plan, choice: Choice) -> Images | tuple[Tensor, Tensor]:
    """Return the training images of a choice.

    Raises:
        UsageError: If an index is out of range.
    """
    parts = load_parts(plan.dataset, plan.split)
    total = len(parts.train_y)
    if choice.indices is not None:
        wrong = [index for index in choice.indices if not 0 <= index < total]
        if wrong:
            raise UsageError(f"there is no training image {wrong[0]}; they go from 0 to {total - 1}")
        places = torch.tensor(choice.indices)
    elif choice.count is None or choice.count >= total:
        return images_of(parts.train_x, parts.train_y, plan.device)
    else:
        places = sample(total, choice.count, choice.seed)
    return images_of(parts.train_x[places], parts.train_y[places], plan.device)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
