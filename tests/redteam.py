"""Operators and nets drawn from seeds, whose spectra are known, and judges of what the library claims of them."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import oracles
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import (
    Density,
    Eigenpairs,
    Operator,
    hessian,
    spectral_density,
    top_eigenpairs,
    trace,
)

ORDERS = ("magnitude", "magnitude", "largest", "smallest")
DETERMINISTIC = ("refused", "failed", "residual", "beyond")
CHANCE = (
    "angle",
    "interval",
    "verdict",
    "sign",
    "missed",
)  # each at most as often as the checks' probabilities say
CLAIMED = 0.5  # a probability above it claims nothing
SIGNIFICANCE = 0.001
DEGENERATE = 1.01
SMALLEST_SHARE = 0.93  # of intervals of 95 % that hold
TRACE_PRODUCTS = 90  # the default
STATED_ERROR = ("error", "change")  # fields of a density that state its error, the first that there is


@dataclass(frozen=True)
class Truth:
    """What is known of an operator in float64."""

    values: Tensor  # (n,) in any order
    coordinates: Callable[[Tensor], Tensor]  # of rows (m, n) along the eigenvectors, in the same order
    rounding: float  # by which values computed in float64 may be off

    @cached_property
    def size(self) -> float:
        """Its 2-norm."""
        return float(self.values.abs().max())

    def sorted(self, order: str) -> Tensor:
        """Return the values, first ones first."""
        return self.values[keys(self.values, order).argsort(descending=True)]

    def angle(self, row: Tensor, value: float, within: float) -> tuple[float, float]:
        """Return the least angle between a vector and an eigenvector of a value near another, and its error."""
        shares = self.coordinates(row.double().unsqueeze(0))[0] / row.double().norm()
        found = (math.pi / 2, 0.0)
        for middle in self.values[(self.values - value).abs() <= within].tolist():
            group = (self.values - middle).abs() <= 10 * self.rounding
            gap = float((self.values[~group] - middle).abs().min()) if not bool(group.all()) else math.inf
            angle = math.atan2(float(shares[~group].norm()), float(shares[group].norm()))
            found = min(found, (angle, 10 * self.rounding / max(gap, 1e-300)))
        return found


def keys(values: Tensor, order: str) -> Tensor:
    """Return what an order sorts by, largest first."""
    return {"magnitude": values.abs(), "largest": values, "smallest": -values}[order]


def truth_of(matrix: Tensor, rounding: float | None = None) -> Truth:
    """Return what is known of a matrix in float64; its asymmetry tells what its own products are off by."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    own = 4e-14 * math.sqrt(len(matrix)) * float(values.abs().max())
    own += 10 * float((matrix - matrix.T).norm())
    return Truth(values, lambda rows: rows @ vectors, own if rounding is None else rounding)


@dataclass(frozen=True)
class Case:
    """An operator, what to ask of it, and what is true of it."""

    kind: str
    seed: int
    operator: Operator
    truth: Truth
    order: str
    k: int
    coarse: bool = False  # whether it has no float64, so that residuals are in float32

    def __str__(self) -> str:
        asked = f"{self.order}, k={self.k}, n={self.operator.dim}"
        return f"{self.kind} {self.seed} ({asked}, {str(self.operator.dtype).removeprefix('torch.')})"


def draw_order(draw: random.Random, dim: int) -> tuple[str, int]:
    """Draw what to ask of an operator; half of the time the usual two by magnitude."""
    return draw.choice(ORDERS), min(draw.choice((2, 2, 1, 2, 3, 4, 5, 6)), dim)


# Structured operators.


def bulk(draw: random.Random, count: int, width: float) -> list[float]:
    """Values below a width, on both sides of zero or on one."""
    low = draw.choice((-width, 0.0))
    return [draw.uniform(low, width) for _ in range(max(count, 0))]


def clusters(draw: random.Random, dim: int) -> list[float]:
    """Draw a few values within a small distance of each other at the top."""
    spread, sign = 10 ** draw.uniform(-10, -2), draw.choice((1, -1))
    top = [sign * (1 - spread * draw.random()) for _ in range(min(draw.randint(2, 6), dim))]
    return [*top, *bulk(draw, dim - len(top), draw.choice((0.3, 0.9, 0.99)))]


def copies(draw: random.Random, dim: int) -> list[float]:
    """Draw an eigenvalue of multiplicity two to five, sometimes below others."""
    above = [1.5] * draw.randint(0, 1)
    top = [*above, *[draw.choice((1.0, -1.0))] * min(draw.randint(2, 5), dim - 1)]
    return [*top, *bulk(draw, dim - len(top), 0.7)]


def mirrored(draw: random.Random, dim: int) -> list[float]:
    """Draw pairs of a value and its opposite, exact or nearly."""
    apart = draw.choice((0.0, 0.0, 10 ** draw.uniform(-9, -2)))
    firsts = [1.0, *(draw.uniform(0.5, 1) for _ in range(draw.randint(0, 1)))]
    top = [value for first in firsts for value in (first, -first * (1 - apart))][:dim]
    return [*top, *bulk(draw, dim - len(top), 0.45)]


def deficient(draw: random.Random, dim: int) -> list[float]:
    """Draw a matrix of low rank, positive semidefinite or not."""
    sign = draw.choice((0.0, 0.0, -1.0))
    rank = min(draw.randint(0, 6), dim)
    return [draw.uniform(0.1, 1) * (1 if draw.random() < 0.5 else sign or 1) for _ in range(rank)] + [0.0] * (
        dim - rank
    )


def decaying(draw: random.Random, dim: int) -> list[float]:
    """Draw a geometric decay."""
    base, mixed = draw.uniform(0.3, 0.98), draw.random() < 0.5
    return [base**place * (draw.choice((1, -1)) if mixed else 1) for place in range(dim)]


def outlying(draw: random.Random, dim: int) -> list[float]:
    """Draw a few values far above a bulk, as Hessians of trained nets have."""
    top = [10 ** draw.uniform(0, 2) for _ in range(min(draw.randint(1, 9), dim))]
    return [*top, *bulk(draw, dim - len(top), 1.0)]


def near_slack(first: Sequence[float]) -> Callable[[random.Random, int], list[float]]:
    """Return a spectrum whose second and third value a check of the default tolerance cannot tell apart."""

    def drawn(draw: random.Random, dim: int) -> list[float]:
        size = abs(first[-1])
        return [*first, *bulk(draw, dim - len(first), draw.choice((0.3, 0.7, 0.95)) * size)]

    return drawn


SPECTRA: dict[str, Callable[[random.Random, int], list[float]]] = {
    "cluster": clusters,
    "copies": copies,
    "plus-minus": mirrored,
    "low rank": deficient,
    "decay": decaying,
    "outliers": outlying,
    "slack 0.5": near_slack((1.0, 0.5, -0.49997, 0.49994)),
    "slack 6e-5": near_slack((1.0, 6e-5, -5.9e-5)),
    "slack of a net": near_slack((1.19, 0.00757, -0.00747)),
}


def structured(count: int, largest: int = 400, dtype: torch.dtype | None = None) -> Iterator[Case]:
    """Yield operators of every kind in turn, in a precision or in either."""
    for seed in range(count):
        kind = list(SPECTRA)[seed % len(SPECTRA)]
        draw = random.Random(f"structured {seed}")
        dim = draw.choice((draw.randint(5, 12), draw.randint(13, 80), draw.randint(81, largest)))
        scale = 10 ** draw.choice((0.0, draw.uniform(-12, 12)))
        order, k = draw_order(draw, dim)
        if kind.startswith("slack"):
            order, k = "magnitude", max(k, 2)
        known = oracles.symmetric([scale * value for value in SPECTRA[kind](draw, dim)], seed)
        drawn = draw.choice((torch.float32, torch.float64))
        coarse = dtype is None and drawn == torch.float32 and draw.random() < 0.2
        operator, matrix = known.operator(dtype or drawn), known.matrix
        if coarse:
            operator, matrix = replace(operator, in_dtype=None), known.matrix.float().double()
        truth = truth_of(matrix)
        if coarse:  # the products themselves round to float32
            truth = replace(truth, rounding=30 * torch.finfo(torch.float32).eps * truth.size)
        yield Case(kind, seed, operator, truth, order, k, coarse)


# Nets.

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
)
KINDS = ("mlp", "convolution", "norm", "mlp", "convolution", "attention")  # a third with norms or attention
FITTED = 1e-7
OUTPUTS = 3
INPUTS = {"mlp": (6,), "convolution": (2, 6, 6), "norm": (2, 6, 6), "attention": (4, 6)}


class Attentive(nn.Module):
    """Self-attention over four places, and a layer over their mean."""

    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.into, self.act = nn.Linear(6, width), act
        self.attend, self.norm = nn.MultiheadAttention(width, 2, batch_first=True), nn.LayerNorm(width)
        self.out = nn.Linear(width, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores."""
        h = self.act(self.into(x))
        h = self.norm(h + self.attend(h, h, h)[0])  # with weights, so without a fused kernel
        found: Tensor = self.out(h.mean(1))
        return found


def layers_of(kind: str, draw: random.Random, width: int) -> nn.Module:
    """Build a net of a kind; the width decides its size."""
    act = draw.choice(ACTIVATIONS)
    if kind == "attention":
        return Attentive(2 * max(1, width // 2), act())
    if kind == "mlp":
        return nn.Sequential(
            nn.Linear(6, width),
            act(),
            *([nn.Linear(width, width), act()] * draw.randint(0, 1)),
            nn.Linear(width, OUTPUTS),
        )
    channels = 2 * max(1, width // 4)
    norm = draw.choice((nn.BatchNorm2d(channels), nn.GroupNorm(2, channels), nn.LayerNorm([channels, 4, 4])))
    between = [norm] if kind == "norm" else []
    return nn.Sequential(
        nn.Conv2d(2, channels, 3),
        *between,
        act(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, OUTPUTS),
    )


Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: tuple[Loss, ...] = (
    functional.cross_entropy,
    functional.mse_loss,
    functional.binary_cross_entropy_with_logits,
    functional.poisson_nll_loss,
    functional.cross_entropy,
)


def targets_for(loss: Loss, count: int, draw: random.Random) -> Tensor:
    """Draw targets that a loss takes."""
    if loss is functional.cross_entropy:
        if draw.random() < 0.7:
            return torch.randint(OUTPUTS, (count,))
        return torch.rand(count, OUTPUTS).softmax(1)
    if loss is functional.mse_loss:
        return torch.randn(count, OUTPUTS)
    return torch.randint(2, (count, OUTPUTS)).float()


@dataclass(frozen=True)
class Net:
    """A model in eval mode, its loss and its batch."""

    kind: str
    seed: int
    model: nn.Module
    loss: Loss
    batch: tuple[Tensor, Tensor]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def matrix(self) -> Tensor:
        """Return the Hessian in float64, by two backward passes."""
        return oracles.double_backward(self.model, self.loss, self.batch)

    def in_dtype(self, dtype: torch.dtype) -> "Net":
        """Return the same weights in a precision."""
        inputs, targets = self.batch
        if targets.is_floating_point():
            targets = targets.to(dtype)
        return replace(self, model=self.model.to(dtype), batch=(inputs.to(dtype), targets))

    def operator(self) -> Operator:
        """Return the library's Hessian."""
        return hessian(self.model, self.loss, self.batch)


def net(seed: int, least: int = 50, most: int = 2000) -> Net:
    """Draw a net by its seed: its kind in turn, and every fifth round fitted to a loss of 1e-7."""
    draw, kind = random.Random(f"net {seed}"), KINDS[seed % len(KINDS)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while True:
            model = layers_of(kind, draw, draw.randint(2, 40))
            if least <= sum(p.numel() for p in model.parameters()) <= most:
                break
        count = draw.choice((4, 16, 40))
        inputs = torch.randn(count, *INPUTS[kind])
        model(inputs)  # in train mode, for the statistics of batch normalisation
        fitted = seed // len(KINDS) % 5 == 4
        loss = draw.choice((functional.cross_entropy, functional.mse_loss)) if fitted else draw.choice(LOSSES)
        targets = targets_for(loss, count, draw)
        if fitted and loss is functional.cross_entropy:
            targets = torch.randint(OUTPUTS, (count,))
        drawn = Net(kind, seed, model.eval(), loss, (inputs, targets))
        if fitted:
            drawn = fit(drawn)
    return drawn.in_dtype(draw.choice((torch.float32, torch.float64)))


def fit(drawn: Net) -> Net:
    """Train a net to a loss of 1e-7 in float64; where it is too small for that, move the targets to its outputs."""
    exact = drawn.in_dtype(torch.float64)
    inputs, targets = exact.batch
    optimizer = torch.optim.LBFGS(
        exact.model.parameters(),
        max_iter=400,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = exact.loss(exact.model(inputs), targets)
        if value.item() > FITTED:
            value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    optimizer.zero_grad()
    if exact.loss(exact.model(inputs), targets).item() > 2 * FITTED:
        with torch.no_grad():
            targets = exact.model(inputs) + math.sqrt(FITTED) * torch.randn(len(inputs), OUTPUTS)
        return replace(exact, kind=f"{drawn.kind}, fitted", loss=functional.mse_loss, batch=(inputs, targets))
    return replace(exact, kind=f"{drawn.kind}, fitted")


def nets(seeds: Iterable[int], dtype: torch.dtype | None = None, **sizes: int) -> Iterator[Case]:
    """Yield the Hessians of random nets, in a precision or in either."""
    for seed in seeds:
        drawn, draw = net(seed, **sizes), random.Random(f"order {seed}")
        drawn = drawn if dtype is None else drawn.in_dtype(dtype)
        operator = drawn.operator()
        yield Case(drawn.kind, seed, operator, truth_of(drawn.matrix()), *draw_order(draw, operator.dim))


# Large operators.


def diagonal(entries: Tensor) -> Operator:
    """Return a diagonal matrix, whose products in float64 are of the same entries."""
    return Operator(
        apply=lambda rows: rows * entries,
        dim=len(entries),
        dtype=entries.dtype,
        device=entries.device,
        name="diagonal",
        in_dtype=lambda dtype: diagonal(entries.to(dtype)),
    )


def large(kind: str, top: Sequence[float], dim: int, k: int) -> Case:
    """Return a diagonal matrix in float32 with some values far out, at places drawn, and others below them."""
    generator = torch.Generator().manual_seed(0)
    entries = 0.6 * torch.rand(dim, generator=generator) - 0.3
    entries[torch.randperm(dim, generator=generator)[: len(top)]] = torch.tensor(top)
    values = entries.double()
    rounding = 1e-12 * float(values.abs().max())
    return Case(kind, 0, diagonal(entries), Truth(values, lambda rows: rows, rounding), "magnitude", k)


LARGE: dict[str, tuple[Sequence[float], int]] = {
    "plain": ((1.0, 0.8, -0.6, 0.5), 2),
    "copies": ((1.0, 1.0, 0.6, 0.5), 3),
    "plus-minus": ((1.0, -1.0, 0.6, -0.6, 0.4), 4),
    "cluster": ((1.0, 0.9999, 0.9998, 0.9997, 0.6), 4),
}


def noisy(dim: int = 1000, error: float = 1e-3) -> Operator:
    """Return an operator whose every product has a new random error, relative to its norm."""
    known = oracles.symmetric(oracles.bulk(1.0, 0.9, 0.8, dim=dim, width=0.4))
    generator = torch.Generator().manual_seed(0)

    def apply(rows: Tensor) -> Tensor:
        noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype) / math.sqrt(dim)
        images: Tensor = rows @ known.matrix.to(rows.dtype) + error * noise * rows.norm(dim=1, keepdim=True)
        return images

    return Operator(apply, dim, torch.float64, torch.device("cpu"), "noisy matrix")


def half(dim: int = 1000) -> Operator:
    """Return an operator whose products are in bfloat16."""
    held = oracles.symmetric(oracles.bulk(1.0, 0.9, 0.8, dim=dim, width=0.4)).matrix.bfloat16()

    def apply(rows: Tensor) -> Tensor:
        image: Tensor = (rows.bfloat16() @ held).to(rows.dtype)
        return image

    return Operator(apply, dim, torch.float32, torch.device("cpu"), "matrix in bfloat16")


def wrong_of_noise(operator: Operator) -> str | None:
    """Return what is wrong with what the library says of an operator too inaccurate for a check."""
    try:
        pairs = top_eigenpairs(operator)
    except ValueError as error:
        return f"refused: {error}" if "not symmetric" in str(error) else None
    if pairs.check is not None and pairs.check.probability < CLAIMED:
        return f"claims {pairs.check.probability:.1g}"
    return None


# Judges.


@dataclass(frozen=True)
class Verdict:
    """What was wrong of the claims about one case."""

    case: Case
    violated: tuple[str, ...]
    stated: float  # the probability of a missed value; 1 if nothing is claimed
    said: str = ""

    @property
    def claims(self) -> bool:
        """Whether the search claims that it has missed nothing."""
        return self.stated <= CLAIMED

    @property
    def counts(self) -> dict[str, int]:
        """A row of the table."""
        missing = [name for name in CHANCE if name in self.violated and not self.claims]
        found = {
            name: int(name in self.violated and name not in missing) for name in (*DETERMINISTIC, *CHANCE)
        }
        stated = round(1000 * self.stated) if self.claims else 0
        return {"cases": 1, "no claim": int(not self.claims), **found, "stated, in 1000": stated}


def judge(case: Case, **options: Any) -> Verdict:
    """Search the first values of a case, and compare all that the result claims with the truth."""
    try:
        pairs = top_eigenpairs(case.operator, k=case.k, order=case.order, seed=case.seed, **options)  # type: ignore[arg-type]
    except (ValueError, FloatingPointError, RuntimeError) as error:
        kind = "refused" if "symmetric" in str(error) else "failed"
        return Verdict(case, (kind,), 1.0, str(error))
    claims: dict[str, Callable[[Case, Eigenpairs], bool]] = {
        "residual": residual_holds,
        "beyond": none_is_beyond,
        "angle": angle_holds,
        "missed": none_is_missed,
    }
    if case.order == "magnitude" and case.k > 1:
        claims |= {"interval": interval_holds, "verdict": verdict_holds, "sign": sign_holds}
    violated = tuple(name for name, holds in claims.items() if not holds(case, pairs))
    stated = pairs.check.probability if pairs.check is not None else 1.0
    said = f"{pairs.values.tolist()}, truth {case.truth.sorted(case.order)[: case.k + 1].tolist()}"
    return Verdict(case, violated, stated, said)


def residual_holds(case: Case, pairs: Eigenpairs) -> bool:
    """Whether there is an eigenvalue within the residual of each value."""
    for value, residual in zip(pairs.values.tolist(), pairs.residuals.tolist(), strict=True):
        if float((case.truth.values - value).abs().min()) > residual + case.truth.rounding:
            return False
    return True


def none_is_beyond(case: Case, pairs: Eigenpairs) -> bool:
    """Whether no value is further out than the true one in its place, as of Rayleigh quotients."""
    true = keys(case.truth.sorted(case.order), case.order)[: len(pairs.values)]
    return bool((keys(pairs.values, case.order) <= true + case.truth.rounding).all())


def angle_holds(case: Case, pairs: Eigenpairs) -> bool:
    """Whether each vector is within its angle of an eigenvector whose value is within its residual."""
    own = 1e-6 if pairs.vectors.dtype == torch.float32 else 1e-12  # the vectors are rounded too
    stated = zip(
        pairs.vectors, pairs.values.tolist(), pairs.residuals.tolist(), pairs.angles.tolist(), strict=True
    )
    for row, value, residual, bound in stated:
        angle, error = case.truth.angle(row, value, residual + case.truth.rounding)
        if angle > bound * (1 + 1e-6) + error + own:
            return False
    return True


def none_is_missed(case: Case, pairs: Eigenpairs, tolerance: float = 1e-4) -> bool:
    """Whether no value lies beyond the last one by more than the tolerance."""
    last = float(keys(pairs.values[-1:], case.order)[0])
    true = float(keys(case.truth.sorted(case.order), case.order)[len(pairs.values) - 1])
    return true <= last + tolerance * case.truth.size + case.truth.rounding


def firsts(case: Case) -> tuple[float, float]:
    """Return the magnitudes of the first two values."""
    first, second = case.truth.sorted("magnitude")[:2].abs().tolist()
    return first, second


def interval_holds(case: Case, pairs: Eigenpairs) -> bool:
    """Whether the interval of the ratio holds the ratio, up to the rounding of both values."""
    (first, second), r, ratio = firsts(case), case.truth.rounding, pairs.ratio
    above = ratio.low * (second - r) <= first + r
    return above and (math.isinf(ratio.high) or first - r <= ratio.high * (second + r))


def verdict_holds(case: Case, pairs: Eigenpairs) -> bool:
    """Whether values called separated differ, and those called degenerate are near."""
    (first, second), r, verdict = firsts(case), case.truth.rounding, pairs.ratio.verdict
    if verdict == "separated":
        return first - second > r
    return verdict != "degenerate" or first - r <= DEGENERATE * (second + r)


def sign_holds(case: Case, pairs: Eigenpairs) -> bool:
    """Whether the first two values have the signs that the ratio claims; among equal ones either may be meant."""
    ratio, true = pairs.ratio, case.truth.sorted("magnitude")
    old = {"indefinite": "opposite", "separated": "same", "degenerate": "same"}.get(ratio.verdict, "open")
    sign = getattr(ratio, "sign", old)
    if sign == "open":
        return True
    second, r = float(true[1].abs()), case.truth.rounding
    tied = [value for value in true.tolist() if abs(abs(value) - second) <= 2 * r]
    ahead = [true.tolist()[0]] if abs(abs(float(true[0])) - second) > 2 * r else tied
    pairs_of = [
        (a, b) for i, a in enumerate(ahead) for j, b in enumerate(tied) if ahead is not tied or i != j
    ]
    return second <= 2 * r or any((a * b < 0) == (sign == "opposite") for a, b in pairs_of)


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """Return what is violated more often than stated, by name, with the cases."""
    wrong: list[str] = []
    for name in DETERMINISTIC:
        cases = [v for v in verdicts if name in v.violated]
        wrong += [f"{name}: {v.case}: {v.said}" for v in cases]
    claiming = [v for v in verdicts if v.claims]
    mean = sum(v.stated for v in claiming) / max(len(claiming), 1)
    for name in CHANCE:
        cases = [v for v in claiming if name in v.violated]
        tested = stats.binomtest(len(cases), max(len(claiming), 1), mean, alternative="greater")
        if tested.pvalue < SIGNIFICANCE:
            first = f"{name}: {len(cases)} of {len(claiming)}, {mean * len(claiming):.2g} expected at most"
            wrong += [first, *(f"  {v.case}: {v.said}" for v in cases[:10])]
    return wrong


Count = Callable[[str, str, Mapping[str, int]], None]


def search_all(title: str, cases: Iterable[Case], count: Count) -> list[str]:
    """Judge the search on every case, count what is violated, and return what is violated too often."""
    verdicts = []
    for case in cases:
        verdicts.append(judge(case))
        count(title, case.kind, verdicts[-1].counts)
    return summary(verdicts)


def trace_all(title: str, cases: Iterable[Case], count: Count) -> tuple[int, int]:
    """Count the intervals of traces that hold them; return these, and how many there are."""
    held: list[bool] = []
    for case in cases:
        true, r = float(case.truth.values.sum()), case.truth.rounding
        exact = "all products" if case.operator.dim <= TRACE_PRODUCTS else "estimates"
        row = f"{case.kind}, {exact}, {str(case.operator.dtype).removeprefix('torch.')}"
        try:
            found = trace(case.operator, TRACE_PRODUCTS, seed=case.seed)
        except ValueError:
            held.append(False)
            count(title, row, {"cases": 1, "held": 0, "refused": 1})
            continue
        held.append(found.low - r <= true <= found.high + r)
        count(title, row, {"cases": 1, "held": int(held[-1])})
    return sum(held), len(held)


def density_all(title: str, cases: Iterable[Case], count: Count) -> tuple[int, int]:
    """Count the densities that are off by at most what they state; return these, and how many there are."""
    held: list[bool] = []
    for case in cases:
        found = spectral_density(case.operator, seed=case.seed)
        error, stated = density_error(found, case.truth.values)
        held.append(error <= stated + 1e-3)  # of the grid's own quadrature
        count(
            title,
            case.kind,
            {"cases": 1, "held": int(held[-1]), "off by a tenth or more": int(error - stated > 0.1)},
        )
    return sum(held), len(held)


def density_error(found: Density, values: Tensor) -> tuple[float, float]:
    """Return the L1 distance of a density from the exact one of equal width, and the error that it states."""
    apart = (found.grid.unsqueeze(1) - values.double()) / found.width
    exact = (-apart.square() / 2).exp().mean(1) / (found.width * math.sqrt(2 * math.pi))
    outside = 1 - float(torch.trapezoid(exact, found.grid))
    error = float(torch.trapezoid((found.density - exact).abs(), found.grid)) + max(outside, 0.0)
    return error, next(float(getattr(found, name)) for name in STATED_ERROR if hasattr(found, name))
