"""The top two eigenvalues at one point, by every library."""

from collections.abc import Callable, Iterable, Mapping

from torch import nn

from curves.peers import (
    Answer,
    Solver,
    Timed,
    arpack,
    confirmed,
    eigenthings,
    in_turns,
    ours,
    power_iteration,
)
from curves.report import Bar, Images, table
from curves.trained import Trained

TOLERANCES = (1e-3, 1e-4, 1e-6)
CARRIED = 1e-5  # relative: what others are asked for at most, as they compute in float32
AGREEMENT = 1e-6  # of two programs in float64
TIGHTENED = ((1e-4, 100), (1e-5, 300), (1e-6, 1000), (1e-7, 1000))  # PyHessian's tol and maxIter
LONGER = (6, 8, 12, 16, 24, 32, 48, 64, 100)  # steps of Lanczos
COLUMNS = ("lambda_1", "lambda_2", "ratio", "products", "check", "ms")


def oneshot(runs: Iterable[Trained], images: Images, turns: int) -> list[Bar]:
    """Print a table for each model: largest error over the turns, products, time of the fastest."""
    bars = []
    for run in runs:
        true = confirmed(run.model, images)
        model, solvers = run.model, solvers_for(run.model, images, true.answer, turns)
        rows = {name: (solver, model) for name, solver in solvers.items()}
        layers: Mapping[str, tuple[Solver, nn.Module]] = {
            "optstudy 1e-04, layer by layer": (ours(1e-4), run.layers)
        }
        found = in_turns({**rows, **layers}, images, turns)
        title = f"{run.name}: {true.answer.first:.4g}, {true.answer.second:.4g}"
        table(title, COLUMNS, [line(row, timed, true.answer) for row, timed in found.items()])
        bars += promises(run.name, found, true.answer, true.disagreement)
    return bars


def line(row: str, timed: Timed, true: Answer) -> list[str]:
    """Return what is shown of a row."""
    errors = [f"{error:.1e}" for error in timed.worst(true)]
    check = f"{timed.check:.1f}" if timed.check else ""
    return [row, *errors, f"{timed.products:.1f}", check, f"{1e3 * timed.seconds:.1f}"]


def solvers_for(model: nn.Module, images: Images, true: Answer, turns: int) -> dict[str, Solver]:
    """Return the solvers, those of others at their defaults and as exact as ours where they can be."""
    found = {f"optstudy {tolerance:.0e}": ours(tolerance) for tolerance in TOLERANCES}

    def error(solver: Solver) -> float:
        return max(max(solver(model, images, turn).errors(true)[:2]) for turn in range(1, turns + 1))

    goal = max(CARRIED, error(ours(1e-4)))
    found["PyHessian"] = power_iteration()
    powers = {
        f"tol {tol:g}, maxIter {most}": power_iteration(tol=tol, maxIter=most) for tol, most in TIGHTENED
    }
    found |= exact("PyHessian", powers, error, goal)
    for tolerance in (1e-3, 1e-6):
        found[f"curvlinops, ARPACK {tolerance:.0e}"] = arpack(tolerance)
    found["eigenthings, 4 steps"] = eigenthings(None)
    steps = {f"{count} steps": eigenthings(count) for count in LONGER}
    return found | exact("eigenthings", steps, error, goal)


def exact(
    name: str, tried: Mapping[str, Solver], error_of: Callable[[Solver], float], goal: float
) -> dict[str, Solver]:
    """Return the first solver whose errors reach the goal, or the nearest, saying so."""
    nearest: tuple[float, str] | None = None
    for how, solver in tried.items():
        error = error_of(solver)
        if error <= goal:
            return {f"{name}, {how}": solver}
        nearest = min(nearest or (error, how), (error, how))
    assert nearest is not None
    return {f"{name}, {nearest[1]} (cannot: {goal:.0e})": tried[nearest[1]]}


def promises(name: str, found: Mapping[str, Timed], true: Answer, apart: float) -> list[Bar]:
    """Return what must hold of ours, and of the truth."""
    bars = [
        Bar(
            f"{name}: float64 twice, apart at most {AGREEMENT:g}",
            f"{apart:.1e}",
            apart <= AGREEMENT,
            promise=True,
        )
    ]
    for tolerance in TOLERANCES:
        answers = found[f"optstudy {tolerance:.0e}"].answers
        worst = max(error_to_first(answer, true) for answer in answers)
        wanted = f"{name}: error at tolerance {tolerance:g}, relative to lambda_1"
        bars.append(Bar(wanted, f"{worst:.1e}", worst <= tolerance, promise=True))
    return bars


def error_to_first(answer: Answer, true: Answer) -> float:
    """Return the larger error of both values, relative to the first: what a tolerance bounds."""
    apart = max(abs(answer.first - true.first), abs(answer.second - true.second))
    return apart / abs(true.first)
