"""The trace of a run's last steps, beside PyHessian on the same weights, and what it costs while training."""

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
from curves.report import Bar, Images, table
from curves.trained import Trained, Weights, short_epochs, trail
from optstudy.curvature import EigenTracker, expand
from optstudy.curvature.build import unchecked
from optstudy.training import Moment, Probe, advance
from optstudy.training.live import restore
from optstudy.workloads.models import LeNet5

TOLERANCE = 1e-3
PRODUCTS, FEWER, FASTER, MULTIPLE = 5.0, 4.0, 3.0, 9.0
LONG = 6  # times the steps, where not all are traced
OTHER = 5  # PyHessian goes over every fifth step
COMPARED = 2  # steps from one whose truth is found to the next: what is lost may return after a few
CONFIRMED = 10  # the same, by ARPACK too
COLUMNS = ("products", "tracked", "ms", "below 1", "lambda_1", "lambda_2", "ratio")


@dataclass(frozen=True)
class Seen:
    """What was found at one step."""

    answer: Answer
    verified: bool
    inside: tuple[float, float]  # the interval of the ratio


@dataclass(frozen=True)
class Replay:
    """One pass over a trail."""

    seen: dict[int, Seen]  # by place in the trail
    seconds: float  # a step

    @property
    def products(self) -> float:
        """A step, checks included."""
        return fmean(one.answer.products for one in self.seen.values())

    @property
    def tracked(self) -> float:
        """A step without a check."""
        return fmean(one.answer.products for one in self.seen.values() if not one.verified)

    @property
    def below(self) -> int:
        """How many ratios are below 1."""
        return sum(one.answer.ratio < 1 for one in self.seen.values())


def replay_ours(
    run: Trained, weights: Sequence[Weights], images: Images, recalled: int = EigenTracker.recalled
) -> Replay:
    """Track the trail."""
    live, memory, seen, seconds = restore(run.state, run.plan), None, {}, 0.0
    steps = range(len(weights))
    tracker = EigenTracker(functional.cross_entropy, images, steps, tolerance=TOLERANCE, recalled=recalled)
    for place, some in enumerate(weights):
        model = moved(live.model, some)
        moment = Moment(place, False, model, live.loss, live.optimizer, *images)
        began = time.perf_counter()
        memory, values = tracker.observe(moment, memory)
        seconds += time.perf_counter() - began
        low, high, first, second, products, verified = (
            float(values[name])
            for name in ("ratio_low", "ratio_high", "lambda_1", "lambda_2", "products", "verified")
        )
        seen[place] = Seen(Answer(first, second, int(products)), bool(verified), (low, high))
    return Replay(seen, seconds / len(weights))


def replay_theirs(weights: Sequence[Weights], images: Images, **options: float) -> Replay:
    """Have PyHessian, at its defaults or with options, go over every fifth of the trail."""
    model, solve, seen, seconds = LeNet5().eval(), power_iteration(**options), {}, 0.0
    for place in range(0, len(weights), OTHER):
        moved(model, weights[place])
        began = time.perf_counter()
        answer = solve(model, images, place)
        seconds += time.perf_counter() - began
        seen[place] = Seen(answer, verified=False, inside=(0.0, math.inf))
    return Replay(seen, seconds / len(seen))


def trace(runs: Iterable[Trained], images: Images, last: int, turns: int) -> list[Bar]:
    """Print a row for each library and model; the fastest of the turns counts."""
    print(f"\ntrace: the last {last} steps of an epoch; PyHessian on every {OTHER}th, a step's mean of these")
    rows, bars, passes = [], [], {}
    for run in runs:
        weights = trail(run, images, last)
        pairs = [(replay_ours(run, weights, images), replay_theirs(weights, images)) for _ in range(turns)]
        mine, theirs = (min(some, key=lambda one: one.seconds) for some in zip(*pairs, strict=True))
        model = LeNet5().eval()
        apart, answers = 0.0, {}
        verified = {place for place, one in mine.seen.items() if one.verified}
        for place in sorted(verified | set(range(0, last, COMPARED))):
            moved(model, weights[place])
            answers[place] = truth(model, images)
            if place % CONFIRMED == 0:
                apart = max(apart, confirmed(model, images).disagreement)
        given, tightened = as_exact(weights, images, answers)
        passes[run.name] = mine, theirs, tightened
        rows += [
            row(f"{run.name}, optstudy", mine, answers),
            row(f"{run.name}, nothing recalled", replay_ours(run, weights, images, recalled=0), answers),
            row(f"{run.name}, PyHessian", theirs, answers),
            row(f"{run.name}, PyHessian, {given}", tightened, answers),
        ]
        bars += promises(run.name, mine, answers, apart)
    table("", COLUMNS, rows)
    return bars + clocks(passes)


def as_exact(weights: Sequence[Weights], images: Images, true: dict[int, Answer]) -> tuple[str, Replay]:
    """Tighten PyHessian until its values are as exact as our residuals promise; what was given, and the pass.

    A setting that fails at the first step goes no further; if all fail, the tightest that was tried is shown, at the
    steps that it was tried at.
    """

    def exact(found: Replay) -> bool:
        shared = found.seen.keys() & true.keys()
        return max(error_to_first(found.seen[place].answer, true[place]) for place in shared) <= TOLERANCE

    for tol, most in TIGHTENED:
        given = f"tol {tol:g}, maxIter {most}"
        found = replay_theirs(weights[:1], images, tol=tol, maxIter=most)
        if exact(found):
            found = replay_theirs(weights, images, tol=tol, maxIter=most)
            if exact(found):
                return given, found
    return f"{given} (cannot: {TOLERANCE:g})", found


def row(name: str, found: Replay, true: dict[int, Answer]) -> list[str]:
    """Return what is shown of a pass: means of a step, and the largest errors."""
    compared = [(found.seen[place].answer, right) for place, right in true.items() if place in found.seen]
    errors = zip(*(answer.errors(right) for answer, right in compared), strict=True)
    return [
        name,
        f"{found.products:.2f}",
        f"{found.tracked:.2f}",
        f"{1e3 * found.seconds:.1f}",
        f"{found.below} of {len(found.seen)}",
        *(f"{max(some):.1e}" for some in errors),
    ]


def promises(name: str, mine: Replay, true: dict[int, Answer], apart: float) -> list[Bar]:
    """Return what must hold of ours."""
    errors = {place: error_to_first(mine.seen[place].answer, right) for place, right in true.items()}
    lost = sum(error > TOLERANCE for error in errors.values())
    verified = [place for place in true if mine.seen[place].verified]
    sure = max(errors[place] for place in verified)
    outside = sum(not _holds(mine.seen[place], true[place]) for place in verified)
    return [
        Bar(
            f"{name}: float64 twice, apart at most {AGREEMENT:g}",
            f"{apart:.1e}",
            apart <= AGREEMENT,
            promise=True,
        ),
        Bar(
            f"{name}: error of verified steps at tolerance {TOLERANCE:g}",
            f"{sure:.1e}",
            sure <= TOLERANCE,
            promise=True,
        ),
        Bar(
            f"{name}: true ratio outside the interval of verified steps",
            f"{outside} of {len(verified)}",
            not outside,
            promise=True,
        ),
        Bar(
            f"{name}: error of every step, tracked ones too, which may lose a value",
            f"{max(errors.values()):.1e}, above {TOLERANCE:g} at {lost} of {len(errors)} steps",
            not lost,
        ),
        Bar(f"{name}: no ratio below 1", f"{mine.below} of {len(mine.seen)}", not mine.below, promise=True),
    ]


def _holds(seen: Seen, true: Answer) -> bool:
    low, high = seen.inside
    return low * (1 - AGREEMENT) <= true.ratio <= high * (1 + AGREEMENT)


def clocks(passes: Mapping[str, tuple[Replay, Replay, Replay]]) -> list[Bar]:
    """Return the bars of cost, of our pass and PyHessian's two; each takes the worst model."""
    products = {name: mine.products for name, (mine, *_) in passes.items()}
    bars = [Bar(f"at most {PRODUCTS:g} products a step", each(products), max(products.values()) <= PRODUCTS)]
    for place, how in ((1, "at its defaults"), (2, f"at an error of {TOLERANCE:g}, or at its least")):
        fewer = {name: some[place].products / some[0].products for name, some in passes.items()}
        faster = {name: some[place].seconds / some[0].seconds for name, some in passes.items()}
        bars += [
            Bar(
                f"{FEWER:g} times fewer products than PyHessian {how}",
                each(fewer),
                min(fewer.values()) >= FEWER,
            ),
            Bar(f"{FASTER:g} times as fast as PyHessian {how}", each(faster), min(faster.values()) >= FASTER),
        ]
    return bars


def each(numbers: dict[str, float]) -> str:
    """Show a number for each model."""
    return ", ".join(f"{name} {number:.2f}" for name, number in numbers.items())


@dataclass(frozen=True)
class Bare:
    """Makes the graph and the products that the bar allows, and nothing of them: no tracker can take less."""

    images: Images
    steps: range
    name: str = "bare"

    def wants(self, moment: Moment) -> bool:
        """Whether a step is among them."""
        return moment.step in self.steps

    def observe(self, moment: Moment, state: Any) -> tuple[Any, Mapping[str, float | str]]:
        """Multiply the same vector again and again."""
        at = unchecked(moment.model, functional.cross_entropy, self.images, parameters=None, dtype=None)
        operator = expand(at).hessian
        vector = torch.ones(operator.dim)
        for _ in range(int(PRODUCTS)):
            operator @ vector
        return state, {}


def training(run: Trained, images: Images, steps: int, turns: int) -> list[Bar]:
    """Print how much longer training takes with its steps traced, in turns with training alone."""

    def alone(count: int) -> float:
        return epoch(run, count, [])

    def traced(count: int, every: int) -> float:
        watched = range(run.state.step, run.state.step + count, every)
        return epoch(run, count, [EigenTracker(functional.cross_entropy, images, watched)])

    def bare(count: int) -> float:
        return epoch(run, count, [Bare(images, range(run.state.step, run.state.step + count))])

    whole = LONG * steps  # alone these take about as long as fewer that are traced, so nothing favours either
    triples = [(alone(whole) / LONG, traced(steps, 1), bare(steps)) for _ in range(turns)]
    plain, full, least = (min(some) for some in zip(*triples, strict=True))
    multiple, every = full / plain, max(2, math.ceil(full / plain))
    floor = f"the graph and {PRODUCTS:g} products of every step, nothing else"
    rows = [["every step", f"{multiple:.2f}"], [floor, f"{least / plain:.2f}"]]
    for _ in range(2):  # the further apart two steps are, the more products the later one takes
        beside, few = alone(whole), traced(whole, every)
        rows.append([f"every {every}th", f"{few / beside:.2f}"])
        equal = max(2, round(every * (few - beside) / beside))
        every = equal
    rows.append([f"as much as training, by the last: every {equal}th", "2.00"])
    table(f"training: {run.name}, {steps} steps, or {whole} where not all are traced", ("multiple",), rows)
    return [
        Bar(
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
