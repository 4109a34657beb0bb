"""How often a tracked step loses the second eigenvalue, and how often the alarm says so.

    python benchmarks/tracked.py                          2,688 steps, about an hour
    python benchmarks/tracked.py --seeds 1 --steps 42     a quarter of them
    python benchmarks/tracked.py --method "Adam, 0.1"     one method; may be given several times
    python benchmarks/tracked.py --folder /tmp/tracked    keep the reference values there, for the next time

LeNet-5 on 8,400 images of MNIST, at ordinary and at chaotic learning rates, in the first and the fifth epoch. Before
each step, two trackers observe the Hessian of 100 images: as it is, and without alarm. A fresh search at tolerance
1e-4, with its check, gives the reference. The second value is off if its magnitude differs from that by more than 1 %,
and by more than the tolerance, 1e-3 of the first value, which any search allows. It is not flagged if the step is not
verified. Small counts what is wrong by more than 1 % within the tolerance, at steps that are not verified either. An
alarm is a step verified out of turn, and idle if it finds no missed value. The products are those of steps that are
not verified in turn.

The exit status is 1 if more than 0.1 % of the steps are off and not flagged.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest import mock

from curves.report import Images, Requirement, show, table
from curves.trained import images_for_curvature
from torch.nn import functional

from optstudy.curvature import EigenTracker, top_eigenpairs
from optstudy.records.plan import Method, Plan, Split
from optstudy.training import StepContext, advance, start

STEPS = 84  # of an epoch, all of which are tracked
EPOCHS = (1, 5)
TOLERANCE = EigenTracker.tolerance
OFF, UNFLAGGED = 0.01, 0.001
PRODUCTS = 5.0
COLUMNS = (
    "steps",
    "off without",
    "off",
    "not flagged",
    "small",
    "alarms",
    "idle",
    "products without",
    "products",
)
DAMPED = {"betas": (0.9, 0.999), "eps": 1e-4}  # AdaHessian's defaults


def adahessian(lr: float) -> Method:
    """Return AdaHessian at a learning rate."""
    arguments = {"lr": lr, **DAMPED}
    return Method("optstudy.optimizers.AdaHessian", arguments, "closure", seeded=True, hessian_products=1)


ORDINARY = {
    "SGD, 0.1": Method("torch.optim.SGD", {"lr": 0.1}),
    "AdaGrad, 0.01": Method("torch.optim.Adagrad", {"lr": 0.01}),
    "Adam, 0.001": Method("torch.optim.Adam", {"lr": 0.001}),
    "AdaHessian, 0.15": adahessian(0.15),
}
CHAOTIC = {
    "SGD, 0.5": Method("torch.optim.SGD", {"lr": 0.5}),
    "AdaGrad, 0.1": Method("torch.optim.Adagrad", {"lr": 0.1}),
    "Adam, 0.1": Method("torch.optim.Adam", {"lr": 0.1}),
    "AdaHessian, 1": adahessian(1.0),
}
METHODS = ORDINARY | CHAOTIC


@dataclass(frozen=True)
class Seen:
    """What a tracker said of a step, and what was due."""

    values: Mapping[str, Any]
    true: tuple[float, float]  # reference values
    scheduled: bool  # whether the step is verified without alarm

    @property
    def verified(self) -> bool:
        """Whether the tracker searched for missed values."""
        return bool(self.values["verified"])

    @property
    def off(self) -> bool:
        """Whether the second value is wrong."""
        return self.error > max(OFF * abs(self.true[1]), TOLERANCE * abs(self.true[0]))

    @property
    def small(self) -> bool:
        """Whether the second value is so small that it is wrong within the tolerance."""
        return OFF * abs(self.true[1]) < self.error <= TOLERANCE * abs(self.true[0])

    @property
    def error(self) -> float:
        """Difference of the second value's magnitude."""
        return abs(abs(float(self.values["lambda_2"])) - abs(self.true[1]))

    @property
    def alarm(self) -> bool:
        """Whether the alarm, or float32, had the step verified."""
        return self.verified and not self.scheduled


Pair = tuple[list[Seen], list[Seen]]  # without alarm, and as it is


class References:
    """Eigenvalues by fresh searches, kept in a file if there is a folder."""

    def __init__(self, folder: Path | None, images: Images) -> None:
        self.path = folder / "references.json" if folder else None
        self.images = images
        self.known: dict[str, tuple[float, float]] = {}
        if self.path and self.path.exists():
            self.known = json.loads(self.path.read_text())

    def at(self, key: str, context: StepContext) -> tuple[float, float]:
        """Return the values before a step."""
        if key not in self.known:
            found = top_eigenpairs(context.model, functional.cross_entropy, self.images, tolerance=1e-4)
            first, second = found.values.tolist()
            self.known[key] = first, second
        return self.known[key]

    def save(self) -> None:
        """Write the file."""
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.known))


class Beside:
    """A probe: both trackers and the reference at each of some steps."""

    def __init__(self, track: str, steps: range, references: References) -> None:
        self.name = f"beside, from step {steps.start}"
        self.track, self.steps, self.references = track, steps, references
        self.tracker = EigenTracker(functional.cross_entropy, references.images, steps)
        self.seen: Pair = [], []

    def is_due(self, context: StepContext) -> bool:
        """Whether the step is one of the steps."""
        return context.step in self.steps

    def observe(self, context: StepContext, state: Any) -> tuple[Any, Mapping[str, float | str]]:
        """Observe a step by all three."""
        with mock.patch.object(EigenTracker, "_may_have_lost", return_value=False):
            without, first = self.tracker.observe(context, state and state["without"])
        as_is, second = self.tracker.observe(context, state and state["as_is"])
        if "lambda_2" in second:
            true = self.references.at(f"{self.track}, {context.step}", context)
            index = self.steps.index(context.step)
            scheduled = index % self.tracker.verify_every == 0 or index == len(self.steps) - 1
            for some, values in zip(self.seen, (first, second), strict=True):
                some.append(Seen(values, true, scheduled))
        return {"without": without, "as_is": as_is}, {}


def follow(name: str, seed: int, steps: int, references: References) -> Pair:
    """Train, and track the first steps of some epochs."""
    last = EPOCHS[-1]
    split = Split("final", size=100 * STEPS)
    plan = Plan("mnist", split, "lenet5", "cross_entropy", METHODS[name], last, (), 100, seed, threads=1)
    probes = [
        Beside(f"{name}, {seed}", range(STEPS * (epoch - 1), STEPS * (epoch - 1) + steps), references)
        for epoch in EPOCHS
    ]
    advance(start(plan), plan, until=last, probes=probes)
    references.save()
    return joined(probe.seen for probe in probes)


def joined(pairs: Iterable[Pair]) -> Pair:
    """Join what was seen."""
    without, as_is = zip(*pairs, strict=True)
    return [one for some in without for one in some], [one for some in as_is for one in some]


def cells(without: Sequence[Seen], as_is: Sequence[Seen]) -> list[str]:
    """Return the cells of a row."""
    alarms = [one for one in as_is if one.alarm]
    return [
        str(len(as_is)),
        str(sum(one.off for one in without)),
        str(sum(one.off for one in as_is)),
        str(len(unflagged(as_is))),
        str(sum(one.small and not one.verified for one in as_is)),
        str(len(alarms)),
        str(sum(not one.values["missed"] for one in alarms)),
        *(f"{products(some):.2f}" for some in (without, as_is)),
    ]


def unflagged(seen: Iterable[Seen]) -> list[Seen]:
    """Return the steps that are off and not flagged."""
    return [one for one in seen if one.off and not one.verified]


def products(seen: Iterable[Seen]) -> float:
    """Return the mean products of the steps that are not verified in turn."""
    return fmean(one.values["products"] for one in seen if not one.scheduled)


def requirements(found: Mapping[str, Pair]) -> list[Requirement]:
    """Return the requirements: of all steps, and of the cost at ordinary rates."""
    _, as_is = joined(found.values())
    lost = len(unflagged(as_is))
    share = f"{lost} of {len(as_is)}, {lost / len(as_is):.2%}"
    required = [
        Requirement(
            f"off and not flagged at most {UNFLAGGED:.1%} of steps",
            share,
            lost <= UNFLAGGED * len(as_is),
            accuracy=True,
        )
    ]
    if ordinary := [found[name] for name in found if name in ORDINARY]:
        least, cost = (products(some) for some in joined(ordinary))
        what = f"at most {PRODUCTS:g} products a step at ordinary rates"
        required.append(Requirement(what, f"{cost:.2f}, {least:.2f} without alarm", cost <= PRODUCTS))
    return required


def main() -> int:
    """Track, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--method", action="append", choices=METHODS, help="may be repeated (default: all)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each method (default: 2)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each epoch (default: {STEPS})")
    parser.add_argument("--folder", type=Path, help="folder in which reference values are kept")
    arguments = parser.parse_args()
    references = References(arguments.folder, images_for_curvature())
    found: dict[str, Pair] = {}
    for name in arguments.method or METHODS:
        runs = (follow(name, seed, arguments.steps, references) for seed in range(arguments.seeds))
        found[name] = joined(runs)
        print(name, *cells(*found[name]), flush=True)
    rows = {**found, "all": joined(found.values())}
    table("", COLUMNS, [[name, *cells(*each)] for name, each in rows.items()])
    return show(requirements(found))


if __name__ == "__main__":
    sys.exit(main())
