"""Tracking a run's last steps, beside PyHessian on the same weights, and its cost while training."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch.nn import functional

from curves.oneshot import AGREEMENT, TIGHTENED, error_to_first
from curves.peers import Answer, confirmed, moved, power_iteration, truth
from curves.report import Images, Requirement, table
from curves.trained import Trained, Weights, record_trajectory, short_epochs
from optstudy.curvature import EigenTracker, expand
from optstudy.curvature.build import unchecked_objective
from optstudy.training import Probe, StepContext, advance
from optstudy.training.live import restore
from optstudy.workloads.models import LeNet5

TOLERANCE = 1e-3
PRODUCTS, FEWER, FASTER, MULTIPLE = 5.0, 4.0, 3.0, 9.0
LONG = 6  # times the steps, if not all are tracked
OTHER = 5  # PyHessian goes over every fifth step
COMPARED = 2  # steps between two reference values; a lost value may return after a few steps
CONFIRMED = 10  # steps between two reference values by ARPACK
COLUMNS = ("products", "tracked", "ms", "below 1", "lambda_1", "lambda_2", "ratio")


@dataclass(frozen=True)
class StepResult:
    """The result of one step."""

    answer: Answer
    verified: bool
    interval: tuple[float, float]  # of the ratio


@dataclass(frozen=True)
class Replay:
    """One pass over a trajectory."""

    results: dict[int, StepResult]  # by index in the trajectory
    seconds: float  # per step

    @property
    def products(self) -> float:
        """Mean products per step, checks included."""
        return fmean(one.answer.products for one in self.results.values())

    @property
    def tracked(self) -> float:
        """Mean products per step without a check."""
        return fmean(one.answer.products for one in self.results.values() if not one.verified)

    @property
    def below(self) -> int:
        """Number of ratios below 1."""
        return sum(one.answer.ratio < 1 for one in self.results.values())


def replay_ours(
    run: Trained, weights: Sequence[Weights], images: Images, extra_pairs: int = EigenTracker.extra_pairs
) -> Replay:
    """Track a trajectory."""
    live, memory, results, seconds = restore(run.state, run.plan), None, {}, 0.0
    steps = range(len(weights))
    tracker = EigenTracker(
        functional.cross_entropy, images, steps, tolerance=TOLERANCE, extra_pairs=extra_pairs
    )
    for index, some in enumerate(weights):
        model = moved(live.model, some)
        context = StepContext(index, False, model, live.loss, live.optimizer, *images)
        began = time.perf_counter()
        memory, values = tracker.observe(context, memory)
        seconds += time.perf_counter() - began
        low, high, first, second, products, verified = (
            float(values[name])
            for name in ("ratio_low", "ratio_high", "lambda_1", "lambda_2", "products", "verified")
        )
        results[index] = StepResult(Answer(first, second, int(products)), bool(verified), (low, high))
    return Replay(results, seconds / len(weights))


def replay_theirs(weights: Sequence[Weights], images: Images, **options: float) -> Replay:
    """Run PyHessian, at its defaults or with options, on every fifth step of a trajectory."""
    model, solve, results, seconds = LeNet5().eval(), power_iteration(**options), {}, 0.0
    for index in range(0, len(weights), OTHER):
        moved(model, weights[index])
        began = time.perf_counter()
        answer = solve(model, images, index)
        seconds += time.perf_counter() - began
        results[index] = StepResult(answer, verified=False, interval=(0.0, math.inf))
    return Replay(results, seconds / len(results))


def trace(runs: Iterable[Trained], images: Images, last: int, repeats: int) -> list[Requirement]:
    """Print a row for each library and model, the minimum over the repeats."""
    print(f"\ntrace: the last {last} steps of an epoch; PyHessian on every {OTHER}th, means over these steps")
    rows, requirements, passes = [], [], {}
    for run in runs:
        weights = record_trajectory(run, images, last)
        pairs = [(replay_ours(run, weights, images), replay_theirs(weights, images)) for _ in range(repeats)]
        mine, theirs = (min(some, key=lambda one: one.seconds) for some in zip(*pairs, strict=True))
        model = LeNet5().eval()
        apart, answers = 0.0, {}
        verified = {index for index, one in mine.results.items() if one.verified}
        for index in sorted(verified | set(range(0, last, COMPARED))):
            moved(model, weights[index])
            answers[index] = truth(model, images)
            if index % CONFIRMED == 0:
                apart = max(apart, confirmed(model, images).disagreement)
        given, tightened = tighten(weights, images, answers)
        passes[run.name] = mine, theirs, tightened
        rows += [
            row(f"{run.name}, optstudy", mine, answers),
            row(f"{run.name}, no extra pairs", replay_ours(run, weights, images, extra_pairs=0), answers),
            row(f"{run.name}, PyHessian", theirs, answers),
            row(f"{run.name}, PyHessian, {given}", tightened, answers),
        ]
        requirements += accuracy_requirements(run.name, mine, answers, apart)
    table("", COLUMNS, rows)
    return requirements + cost_requirements(passes)


def tighten(weights: Sequence[Weights], images: Images, true: dict[int, Answer]) -> tuple[str, Replay]:
    """Tighten PyHessian until its values are as exact as our residuals promise; return the options, and the pass.

    Options that fail at the first step are not run on the others; if all fail, the last pass is returned.
    """

    def exact(found: Replay) -> bool:
        shared = found.results.keys() & true.keys()
        return max(error_to_first(found.results[index].answer, true[index]) for index in shared) <= TOLERANCE

    for tol, most in TIGHTENED:
        given = f"tol {tol:g}, maxIter {most}"
        found = replay_theirs(weights[:1], images, tol=tol, maxIter=most)
        if exact(found):
            found = replay_theirs(weights, images, tol=tol, maxIter=most)
            if exact(found):
                return given, found
    return f"{given} (cannot: {TOLERANCE:g})", found


def row(name: str, found: Replay, true: dict[int, Answer]) -> list[str]:
    """Return the cells of a pass: means per step, and the largest errors."""
    compared = [
        (found.results[index].answer, right) for index, right in true.items() if index in found.results
    ]
    errors = zip(*(answer.errors(right) for answer, right in compared), strict=True)
    return [
        name,
        f"{found.products:.2f}",
        f"{found.tracked:.2f}",
        f"{1e3 * found.seconds:.1f}",
        f"{found.below} of {len(found.results)}",
        *(f"{max(some):.1e}" for some in errors),
    ]


def accuracy_requirements(
    name: str, mine: Replay, true: dict[int, Answer], apart: float
) -> list[Requirement]:
    """Return the requirements of our accuracy."""
    errors = {index: error_to_first(mine.results[index].answer, right) for index, right in true.items()}
    lost = sum(error > TOLERANCE for error in errors.values())
    verified = [index for index in true if mine.results[index].verified]
    sure = max(errors[index] for index in verified)
    outside = sum(not _holds(mine.results[index], true[index]) for index in verified)
    return [
        Requirement(
            f"{name}: float64 twice, apart at most {AGREEMENT:g}",
            f"{apart:.1e}",
            apart <= AGREEMENT,
            accuracy=True,
        ),
        Requirement(
            f"{name}: error of verified steps at tolerance {TOLERANCE:g}",
            f"{sure:.1e}",
            sure <= TOLERANCE,
            accuracy=True,
        ),
        Requirement(
            f"{name}: true ratio outside the interval of verified steps",
            f"{outside} of {len(verified)}",
            not outside,
            accuracy=True,
        ),
        Requirement(
            f"{name}: error of every step, tracked ones too, which may lose a value",
            f"{max(errors.values()):.1e}, above {TOLERANCE:g} at {lost} of {len(errors)} steps",
            not lost,
        ),
        Requirement(
            f"{name}: no ratio below 1", f"{mine.below} of {len(mine.results)}", not mine.below, accuracy=True
        ),
    ]


def _holds(result: StepResult, true: Answer) -> bool:
    low, high = result.interval
    return low * (1 - AGREEMENT) <= true.ratio <= high * (1 + AGREEMENT)


def cost_requirements(passes: Mapping[str, tuple[Replay, Replay, Replay]]) -> list[Requirement]:
    """Return the requirements of cost, for the worst model: ours and PyHessian's two passes."""
    products = {name: mine.products for name, (mine, *_) in passes.items()}
    requirements = [
        Requirement(
            f"at most {PRODUCTS:g} products a step", each(products), max(products.values()) <= PRODUCTS
        )
    ]
    for index, how in ((1, "at its defaults"), (2, f"at an error of {TOLERANCE:g}, or at its least")):
        fewer = {name: some[index].products / some[0].products for name, some in passes.items()}
        faster = {name: some[index].seconds / some[0].seconds for name, some in passes.items()}
        requirements += [
            Requirement(
                f"{FEWER:g} times fewer products than PyHessian {how}",
                each(fewer),
                min(fewer.values()) >= FEWER,
            ),
            Requirement(
                f"{FASTER:g} times as fast as PyHessian {how}", each(faster), min(faster.values()) >= FASTER
            ),
        ]
    return requirements


def each(numbers: dict[str, float]) -> str:
    """Format a number for each model."""
    return ", ".join(f"{name} {number:.2f}" for name, number in numbers.items())


@dataclass(frozen=True)
class Bare:
    """Computes the graph and the required number of products only: a lower limit for trackers."""

    images: Images
    steps: range
    name: str = "bare"

    def is_due(self, context: StepContext) -> bool:
        """Whether the step is one of `steps`."""
        return context.step in self.steps

    def observe(self, context: StepContext, state: Any) -> tuple[Any, Mapping[str, float | str]]:
        """Multiply the same vector repeatedly."""
        at = unchecked_objective(
            context.model, functional.cross_entropy, self.images, parameters=None, dtype=None
        )
        operator = expand(at).hessian
        vector = torch.ones(operator.dim)
        for _ in range(int(PRODUCTS)):
            operator @ vector
        return state, {}


def training(run: Trained, images: Images, steps: int, repeats: int) -> list[Requirement]:
    """Print how much longer training takes with tracking, alternating with training alone."""

    def alone(count: int) -> float:
        return epoch(run, count, [])

    def traced(count: int, every: int) -> float:
        watched = range(run.state.step, run.state.step + count, every)
        return epoch(run, count, [EigenTracker(functional.cross_entropy, images, watched)])

    def bare(count: int) -> float:
        return epoch(run, count, [Bare(images, range(run.state.step, run.state.step + count))])

    whole = LONG * steps  # these take about as long alone as fewer with tracking
    triples = [(alone(whole) / LONG, traced(steps, 1), bare(steps)) for _ in range(repeats)]
    plain, full, least = (min(some) for some in zip(*triples, strict=True))
    multiple, every = full / plain, max(2, math.ceil(full / plain))
    floor = f"the graph and {PRODUCTS:g} products of every step, nothing else"
    rows = [["every step", f"{multiple:.2f}"], [floor, f"{least / plain:.2f}"]]
    for _ in range(2):  # steps further apart take more products
        beside, few = alone(whole), traced(whole, every)
        rows.append([f"every {every}th", f"{few / beside:.2f}"])
        equal = max(2, round(every * (few - beside) / beside))
        every = equal
    rows.append([f"as much as training, by the last: every {equal}th", "2.00"])
    table(f"training: {run.name}, {steps} steps, or {whole} where not all are traced", ("multiple",), rows)
    return [
        Requirement(
            f"tracing every step: at most {MULTIPLE:g} times training",
            f"{multiple:.2f}; {floor}: {least / plain:.2f}",
            multiple <= MULTIPLE,
        )
    ]


def epoch(run: Trained, steps: int, probes: Sequence[Probe]) -> float:
    """Train for some steps, and return their seconds."""
    plan, state = short_epochs(run, steps, epochs=1)
    _, history = advance(state, plan, until=state.epoch + 1, probes=probes)
    return history.epochs[-1].seconds
