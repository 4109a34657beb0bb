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
    in_repeats,
    ours,
    power_iteration,
)
from curves.report import Images, Requirement, table
from curves.trained import Trained

TOLERANCES = (1e-3, 1e-4, 1e-6)
ATTAINABLE = 1e-5  # relative error required of others, which compute in float32
AGREEMENT = 1e-6  # between two programs in float64
TIGHTENED = ((1e-4, 100), (1e-5, 300), (1e-6, 1000), (1e-7, 1000))  # PyHessian's tol and maxIter
LONGER = (6, 8, 12, 16, 24, 32, 48, 64, 100)  # steps of Lanczos
COLUMNS = ("lambda_1", "lambda_2", "ratio", "products", "check", "ms")


def oneshot(runs: Iterable[Trained], images: Images, repeats: int) -> list[Requirement]:
    """Print a table for each model: largest error over the repeats, products, minimum time."""
    requirements = []
    for run in runs:
        true = confirmed(run.model, images)
        model, solvers = run.model, solvers_for(run.model, images, true.answer, repeats)
        rows = {name: (solver, model) for name, solver in solvers.items()}
        layers: Mapping[str, tuple[Solver, nn.Module]] = {
            "optstudy 1e-04, layer by layer": (ours(1e-4), run.layers)
        }
        found = in_repeats({**rows, **layers}, images, repeats)
        title = f"{run.name}: {true.answer.first:.4g}, {true.answer.second:.4g}"
        table(title, COLUMNS, [line(row, timed, true.answer) for row, timed in found.items()])
        requirements += accuracy_requirements(run.name, found, true.answer, true.disagreement)
    return requirements


def line(row: str, timed: Timed, true: Answer) -> list[str]:
    """Return the cells of a row."""
    errors = [f"{error:.1e}" for error in timed.worst(true)]
    check = f"{timed.check:.1f}" if timed.check else ""
    return [row, *errors, f"{timed.products:.1f}", check, f"{1e3 * timed.seconds:.1f}"]


def solvers_for(model: nn.Module, images: Images, true: Answer, repeats: int) -> dict[str, Solver]:
    """Return the solvers: ours, and others at their defaults and, if they can, at our accuracy."""
    solvers = {f"optstudy {tolerance:.0e}": ours(tolerance) for tolerance in TOLERANCES}

    def error(solver: Solver) -> float:
        return max(max(solver(model, images, turn).errors(true)[:2]) for turn in range(1, repeats + 1))

    goal = max(ATTAINABLE, error(ours(1e-4)))
    solvers["PyHessian"] = power_iteration()
    powers = {
        f"tol {tol:g}, maxIter {most}": power_iteration(tol=tol, maxIter=most) for tol, most in TIGHTENED
    }
    solvers |= first_exact("PyHessian", powers, error, goal)
    for tolerance in (1e-3, 1e-6):
        solvers[f"curvlinops, ARPACK {tolerance:.0e}"] = arpack(tolerance)
    solvers["eigenthings, 4 steps"] = eigenthings(None)
    steps = {f"{count} steps": eigenthings(count) for count in LONGER}
    return solvers | first_exact("eigenthings", steps, error, goal)


def first_exact(
    name: str, solvers: Mapping[str, Solver], error_of: Callable[[Solver], float], goal: float
) -> dict[str, Solver]:
    """Return the first solver whose error reaches the goal, or the most accurate one, marked "cannot"."""
    nearest: tuple[float, str] | None = None
    for how, solver in solvers.items():
        error = error_of(solver)
        if error <= goal:
            return {f"{name}, {how}": solver}
        nearest = min(nearest or (error, how), (error, how))
    assert nearest is not None
    return {f"{name}, {nearest[1]} (cannot: {goal:.0e})": solvers[nearest[1]]}


def accuracy_requirements(
    name: str, found: Mapping[str, Timed], true: Answer, apart: float
) -> list[Requirement]:
    """Return the requirements of our accuracy, and of the reference values."""
    requirements = [
        Requirement(
            f"{name}: float64 twice, apart at most {AGREEMENT:g}",
            f"{apart:.1e}",
            apart <= AGREEMENT,
            accuracy=True,
        )
    ]
    for tolerance in TOLERANCES:
        answers = found[f"optstudy {tolerance:.0e}"].answers
        worst = max(error_to_first(answer, true) for answer in answers)
        wanted = f"{name}: error at tolerance {tolerance:g}, relative to lambda_1"
        requirements.append(Requirement(wanted, f"{worst:.1e}", worst <= tolerance, accuracy=True))
    return requirements


def error_to_first(answer: Answer, true: Answer) -> float:
    """Return the larger error of both values, relative to the first, as a tolerance bounds it."""
    apart = max(abs(answer.first - true.first), abs(answer.second - true.second))
    return apart / abs(true.first)
