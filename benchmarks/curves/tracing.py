"""The trace of a run's last steps, beside PyHessian on the same weights, and what it costs while training."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch.nn import functional

from curves.oneshot import AGREEMENT, error_to_first
from curves.peers import Answer, confirmed, moved, power_iteration, truth
from curves.report import Bar, Images, table
from curves.trained import Trained, Weights, short_epochs, trail
from optstudy.curvature import EigenTracker
from optstudy.models import LeNet5
from optstudy.training import Moment, Probe, advance
from optstudy.training.live import restore

TOLERANCE = 1e-3
PRODUCTS, FEWER, FASTER, MULTIPLE = 5.0, 4.0, 3.0, 9.0
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


def replay_ours(run: Trained, weights: Sequence[Weights], images: Images) -> Replay:
    """Track the trail."""
    live, memory, seen, seconds = restore(run.state, run.plan), None, {}, 0.0
    tracker = EigenTracker(functional.cross_entropy, images, range(len(weights)), tolerance=TOLERANCE)
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


def replay_theirs(weights: Sequence[Weights], images: Images) -> Replay:
    """Have PyHessian, at its defaults, go over every fifth of the trail."""
    model, solve, seen, seconds = LeNet5().eval(), power_iteration(), {}, 0.0
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
    rows, bars, passes = [], [], []
    for run in runs:
        weights = trail(run, images, last)
        pairs = [(replay_ours(run, weights, images), replay_theirs(weights, images)) for _ in range(turns)]
        mine, theirs = (min(some, key=lambda one: one.seconds) for some in zip(*pairs, strict=True))
        passes.append((run.name, mine, theirs))
        model = LeNet5().eval()
        apart, answers = 0.0, {}
        verified = {place for place, one in mine.seen.items() if one.verified}
        for place in sorted(verified | set(range(0, last, COMPARED))):
            moved(model, weights[place])
            answers[place] = truth(model, images)
            if place % CONFIRMED == 0:
                apart = max(apart, confirmed(model, images).disagreement)
        rows += [row(f"{run.name}, optstudy", mine, answers), row(f"{run.name}, PyHessian", theirs, answers)]
        bars += promises(run.name, mine, answers, apart)
    table("", COLUMNS, rows)
    return bars + clocks(passes)


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
    sure = max(error for place, error in errors.items() if mine.seen[place].verified)
    outside = sum(
        not low * (1 - AGREEMENT) <= right.ratio <= high * (1 + AGREEMENT)
        for place, right in true.items()
        for low, high in [mine.seen[place].inside]
    )
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
            f"{name}: error of every step at tolerance {TOLERANCE:g}",
            f"{max(errors.values()):.1e}, above it at {lost} of {len(errors)} steps",
            not lost,
            promise=True,
        ),
        Bar(
            f"{name}: true ratio outside the interval", f"{outside} of {len(true)}", not outside, promise=True
        ),
        Bar(f"{name}: no ratio below 1", f"{mine.below} of {len(mine.seen)}", not mine.below, promise=True),
    ]


def clocks(passes: Sequence[tuple[str, Replay, Replay]]) -> list[Bar]:
    """Return the bars of cost; each takes the worst model."""
    products = {name: mine.products for name, mine, _ in passes}
    fewer = {name: theirs.products / mine.products for name, mine, theirs in passes}
    faster = {name: theirs.seconds / mine.seconds for name, mine, theirs in passes}
    return [
        Bar(f"at most {PRODUCTS:g} products a step", each(products), max(products.values()) <= PRODUCTS),
        Bar(f"{FEWER:g} times fewer products than PyHessian", each(fewer), min(fewer.values()) >= FEWER),
        Bar(f"{FASTER:g} times as fast as PyHessian", each(faster), min(faster.values()) >= FASTER),
    ]


def each(numbers: dict[str, float]) -> str:
    """Show a number for each model."""
    return ", ".join(f"{name} {number:.2f}" for name, number in numbers.items())


def training(run: Trained, images: Images, steps: int, turns: int) -> list[Bar]:
    """Print how much longer training takes with its steps traced, in turns with training alone."""

    def alone() -> float:
        return epoch(run, steps, [])

    def traced(every: int) -> float:
        first = run.state.step
        return epoch(
            run, steps, [EigenTracker(functional.cross_entropy, images, range(first, first + steps, every))]
        )

    pairs = [(alone(), traced(1)) for _ in range(turns)]
    plain, full = (min(some) for some in zip(*pairs, strict=True))
    every = max(1, math.ceil((full - plain) / plain))
    both = [(alone(), traced(every)) for _ in range(turns)]
    beside, few = (min(some) for some in zip(*both, strict=True))
    scale = 600 / steps
    table(
        f"training: {run.name}, {steps} steps, scaled to an epoch",
        ("s/epoch", "multiple"),
        [
            ["not traced", f"{scale * plain:.2f}", "1.00"],
            ["every step", f"{scale * full:.2f}", f"{full / plain:.2f}"],
            [
                f"every {every}th: as much as training, by the above",
                f"{scale * few:.2f}",
                f"{few / beside:.2f}",
            ],
        ],
    )
    multiple = full / plain
    return [
        Bar(
            f"tracing every step: at most {MULTIPLE:g} times training",
            f"{multiple:.2f}",
            multiple <= MULTIPLE,
        )
    ]


def epoch(run: Trained, steps: int, probes: Sequence[Probe]) -> float:
    """Train for some steps, and return their seconds."""
    plan, state = short_epochs(run, steps, epochs=1)
    _, history = advance(state, plan, until=state.epoch + 1, probes=probes)
    return history.epochs[-1].seconds
