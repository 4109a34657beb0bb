"""Made-up runs and searches with the magnitudes of real ones, as `optstudy.evidence` has them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from finals import LOOKS, look_keys

from optstudy.comparison.table import Comparison, compare
from optstudy.records.curvature import CURVATURE_FORMAT, CurvatureResult, FinalCurvature
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.run import CostToTarget, EpochRecord, FinalRun, Predictions
from optstudy.records.search import SearchResult, Trial, select_best
from optstudy.records.space import Range, Space

PAPER = ("sgd", "adagrad", "adam", "adahessian")
LONG = "an_optimizer_with_a_long_name_"  # 30 letters
DIGITS = tuple(map(str, range(10)))
IMAGES = 2000

# Of each optimizer: test error, rise of the loss, ratio, epochs to the target, work of an epoch.
_TRAITS: dict[str, tuple[float, float, float, float, float]] = {
    "sgd": (0.011, 0.05, 1.4, 11, 600),
    "adagrad": (0.016, 0.002, 1.1, 25, 600),
    "adam": (0.0105, 1.2, 2.2, 7, 600),
    "adahessian": (0.0092, 4.0, 1.05, 4, 1800),
}


def traits(optimizer: str) -> tuple[float, float, float, float, float]:
    return _TRAITS.get(optimizer, (0.012, 0.3, 1.3, 9, 600))


def trial(number: int, state: Any, score: float | None, work: float) -> Trial:
    """Return a trial of three epochs."""
    return Trial(number, {"lr": 0.1 * number}, state, score, (score,), 3, work)


TRIALS = (  # one at least of each state
    trial(0, "diverged", None, 4.0),
    trial(1, "completed", 0.5, 10.0),
    trial(2, "pruned", 0.9, 5.0),
    trial(3, "completed", 0.75, 10.0),
    trial(4, "completed", 0.25, 10.0),
    trial(5, "failed", None, 0.0),
)


def run_evidence(
    optimizer: str = "sgd",
    config: str = "best",
    seed: int = 0,
    *,
    study: str = "quick",
    epochs: int = 30,
    steps: int = 100,
    classes: tuple[str, ...] = DIGITS,
    target: float | None = 0.985,
) -> RunEvidence:
    """Return a run with everything that may be measured, other numbers for each seed."""
    draws = np.random.default_rng([*f"{study}/{optimizer}/{config}".encode(), seed])
    error, rise, ratio, soon, work = traits(optimizer)
    error = float(error * draws.lognormal(0, 0.08))
    rise = float(rise * draws.lognormal(0, 0.5))
    predictions = guesses(draws, error, classes)
    reached = float(round(soon * draws.lognormal(0, 0.15)))
    spent = CostToTarget(reached, 3 * reached, work * reached) if reached <= epochs else None
    run = FinalRun(
        run_id=f"{study}-{optimizer}-{config}-{seed}",
        study=study,
        optimizer=optimizer,
        config=config,
        seed=seed,
        outcome="completed",
        train_accuracy=0.999,
        test_accuracy=float(predictions.correct.mean()),
        paper_setting=True,
        seconds=3.0 * epochs,
        gradient_work=work * epochs,
        margin=0.001,
        params={},
        target=target,
        cost_to_target=spent if target else None,
        curvature=FinalCurvature(5.0, 5 / ratio, ratio, ratio, ratio, "separated", 9.0, rise),
    )
    norms = 3 * np.exp(-np.arange(epochs) / 8) * draws.lognormal(0, 0.4, epochs) + 1e-3
    return RunEvidence(
        run,
        None,
        tuple(epoch(1 + place, float(norm)) for place, norm in enumerate(norms)),
        predictions,
        trace(draws, ratio, steps),
        curvature_result(rise, float(draws.choice([-1, 1])), 1e-4 * error),
    )


def epoch(number: int, norm: float | None) -> EpochRecord:
    return EpochRecord(number, 0.1, 0.98, 0.05, 0.985, norm, 3.0, 0.0, 600, 0)


def guesses(draws: np.random.Generator, error: float, classes: tuple[str, ...]) -> Predictions:
    labels = np.arange(IMAGES) % len(classes)
    wrong = draws.random(IMAGES) < error * (1 + (labels == 1))
    guessed = np.where(wrong, (labels + draws.integers(1, 4, IMAGES)) % len(classes), labels)
    return Predictions(labels, guessed, classes)


def trace(draws: np.random.Generator, ratio: float, steps: int = 100) -> EigenTrace:
    """Return a random walk of the ratio that stays above 1."""
    walk = 1 + (ratio - 1) * np.exp(np.cumsum(draws.normal(0, 0.05, steps)))
    none = np.zeros(steps)
    return EigenTrace(
        step=np.arange(17_900, 17_900 + steps),
        values=np.stack([5 * walk, np.full(steps, 5.0)], axis=1),
        residuals=np.zeros((steps, 2)),
        ratio=walk,
        low=0.99 * walk,
        high=1.01 * walk,
        verdict=np.where(walk < 1.03, "degenerate", "separated"),
        sign=np.full(steps, "same"),
        verified=np.arange(steps) % 25 == 0,
        probability=none,
        angle=none,
        gradient_share=none,
        products=none,
        preconditioned_step=np.zeros(0, dtype=np.int64),
        preconditioned=np.zeros(0),
    )


def curvature_result(rise: float, sign: float = 1.0, floor: float = 1e-6) -> CurvatureResult:
    """Return a valley whose mean rise at distance 1 is as given, larger on one side."""
    axis = np.linspace(-1, 1, 41)
    line = floor + rise * axis**2 * (1 + 0.4 * sign * axis)
    plane = line[:, None] + 0.5 * rise * axis**2 + 0.1 * rise * axis[:, None] * axis
    return CurvatureResult(
        samples=100,
        values=np.array([5.0, 3.0]),
        residuals=np.zeros(2),
        ratio=np.array([1.6, 1.59, 1.61]),
        verdict="separated",
        probability=0.01,
        dtype="float32",
        products=20,
        trace=np.array([9.0, 8.0, 10.0]),
        distances=axis,
        line=line,
        line_model=line,
        plane=plane,
        plane_model=plane,
        sign="same",
        format=CURVATURE_FORMAT,
    )


def runs_of(
    optimizers: Sequence[str] = PAPER, seeds: int = 10, config: str = "best", **changes: Any
) -> tuple[RunEvidence, ...]:
    return tuple(run_evidence(name, config, seed, **changes) for name in optimizers for seed in range(seeds))


def diverged(one: RunEvidence, after: int) -> RunEvidence:
    """Return the run as if it had lost its numbers after some epochs."""
    kept = (*one.epochs[:after], epoch(after + 1, None))
    run = replace(one.run, outcome="diverged", test_accuracy=0.098, cost_to_target=None, curvature=None)
    return replace(one, run=run, epochs=kept, trace=None, curvature=None)


def bare(one: RunEvidence) -> RunEvidence:
    """Return the run as if nothing but its accuracy had been kept."""
    run = replace(one.run, cost_to_target=None, curvature=None, target=None)
    return RunEvidence(run)


def with_run(one: RunEvidence, **changes: Any) -> RunEvidence:
    return replace(one, run=replace(one.run, **changes))


LR = Range("lr", 1e-4, 1.0, log=True, complement=False, integer=False, why="")


def space(optimizer: str) -> Space:
    return Space(
        name=optimizer,
        optimizer="torch.optim.SGD",
        needs="",
        seeded=False,
        hessian_products=0,
        tuples={},
        fixed={},
        search=(LR,),
        default={"lr": 1e-2},
        paper={"lr": 0.1},
        source=Path("sgd.toml"),
        **look_keys(optimizer),
    )


def search_result(
    optimizer: str = "sgd",
    study: str = "quick",
    *,
    trials: int = 20,
    seed: int = 0,
    sampler: str = "tpe",
    pruner: str = "median",
    objective: Any = "accuracy",
) -> SearchResult:
    """Return a search around a best learning rate, with a diverged trial and pruned ones."""
    draws = np.random.default_rng([*optimizer.encode(), seed])
    error, _, _, _, work = traits(optimizer)
    rates = np.r_[1e-2, 0.1, 10 ** draws.uniform(-4, 0, trials)][:trials]
    found = []
    for number, rate in enumerate(rates.tolist()):
        score = 1 - error * (1 + 2 * math.log10(rate / 0.05) ** 2) * float(draws.lognormal(0, 0.1))
        cut = pruner != "none" and number > 5 and score < 0.96
        state: Any = "diverged" if rate > 0.7 else "pruned" if cut else "completed"
        final = None if state == "diverged" else score if objective == "accuracy" else 3 * (1 - score)
        ran = 2 if state != "completed" else 6
        found.append(Trial(number, {"lr": rate}, state, final, (final,), ran, work * ran))
    settings = {"trials": trials, "sampler": sampler, "pruner": pruner, "seed": seed, "epochs": 6}
    best = select_best(found, objective)
    return SearchResult(study, space(optimizer), objective, tuple(found), best, settings=settings)


def evidence_of(*runs: RunEvidence, searches: Sequence[SearchResult] = ()) -> Evidence:
    return Evidence(runs, tuple(searches), LOOKS)


def comparison_of(evidence: Evidence) -> Comparison:
    """Compare, with the studies in the order of their runs."""
    return compare(replace(evidence, studies=tuple(dict.fromkeys(one.run.study for one in evidence.runs))))
