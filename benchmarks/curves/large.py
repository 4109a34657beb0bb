"""Nets of one and of eleven million parameters: time, memory and error of every library, a process for each row."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from curves.alone import Row, Task, has_memory
from curves.nets import REFERENCE
from curves.report import Requirement, table

COLUMNS = ("products", "check", "s", "s of CPU", "not products", "MB", "residual", "off by", "")
HERE = Path(__file__).resolve().parent.parent
LOOSER = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)  # tolerances tried until the values are as near as PyHessian's
MEMORY = (8, 12, 22)  # vectors kept
GIGA = 1e9
FLOAT32_LIMIT = 1e-5  # the finest tolerance that optstudy tries to reach in float32
SEARCH, CHECKED, PEAK, DENSITY_PEAK, TRACE_PEAK = 1.1, 1.6, 1.35, 1.2, 1.0
OUTSIDE = {"resnet": 0.15, "transformer": 0.10}  # share of the wall time that is not products
SOLVED, DEFAULT, ALONE, EQUAL, EQUAL_CHECKED, LOOSE, PYHESSIAN, EIGSH = (
    "optstudy",
    "optstudy",
    "optstudy, no check",
    "optstudy, no check, at eigsh's residual",
    "optstudy, at eigsh's residual",
    "optstudy, no check, as near as PyHessian",
    "PyHessian",
    "curvlinops, scipy's eigsh",
)
Rows = dict[str, Row | None]


def large(nets: Sequence[str], repeats: int, before: Path | None, limit: float) -> list[Requirement]:
    """Print a table for each net: the least time of the repeats, which are in turns."""
    requirements: list[Requirement] = []
    for net in nets:
        rows: Rows = in_turns(searches(net), repeats)
        certain = Task(net, SOLVED, tolerance=equal_tolerance(rows), check=False)
        rows |= in_turns({EQUAL: certain, EQUAL_CHECKED: dataclasses.replace(certain, check=True)}, repeats)
        rows[LOOSE] = as_near(net, largest_error(net, rows[PYHESSIAN]))
        rows |= {name: alone(task) for name, task in spectra(net).items()}
        if before is not None:
            tasks = {DEFAULT: Task(net, SOLVED), ALONE: Task(net, SOLVED, check=False)} | spectra(net)
            rows |= {f"before: {name}": alone(task, before, limit) for name, task in tasks.items()}
        table(f"large: {net}", COLUMNS, [[name, *cells(net, row, limit)] for name, row in rows.items()])
        requirements += requirements_of(net, rows)
    return requirements


def searches(net: str) -> dict[str, Task]:
    """Return the searches for the first values."""
    tasks = {
        DEFAULT: Task(net, SOLVED),
        ALONE: Task(net, SOLVED, check=False),
        PYHESSIAN: Task(net, "pyhessian"),
        EIGSH: Task(net, "eigsh"),
        "eigenthings, 4 steps": Task(net, "eigenthings"),
        "eigenthings, 24 steps": Task(net, "eigenthings", steps=24),
    }
    if has_memory():
        tasks |= {
            f"optstudy, no check, {m} vectors": Task(net, SOLVED, check=False, memory=m) for m in MEMORY
        }
    if len(REFERENCE[net]) >= 10:
        tasks |= {
            "optstudy, k=10": Task(net, SOLVED, k=10),
            "optstudy, k=10, no check": Task(net, SOLVED, k=10, check=False),
            f"{EIGSH}, k=10": Task(net, "eigsh", k=10),
        }
    return tasks


def spectra(net: str) -> dict[str, Task]:
    """Return the estimates of the whole spectrum."""
    return {"density": Task(net, "density"), "trace": Task(net, "trace")}


def in_turns(tasks: Mapping[str, Task], repeats: int) -> Rows:
    """Compute each row as often as wanted, and return the one of least CPU time."""
    turns = [{name: alone(task) for name, task in tasks.items()} for _ in range(repeats)]
    found: Rows = {name: min((done(turn[name]) for turn in turns), key=lambda row: row.cpu) for name in tasks}
    return found


def as_near(net: str, error: float) -> Row:
    """Return the loosest search whose values are no further off than an error."""
    for tolerance in LOOSER:
        row = done(alone(Task(net, SOLVED, tolerance=tolerance, check=False)))
        if largest_error(net, row) <= error:
            break
    return dataclasses.replace(row, said=f"tolerance {tolerance:g}, {row.said}")


def alone(task: Task, package: Path | None = None, limit: float | None = None) -> Row | None:
    """Compute a row in a process with one thread, by another checkout if given; None if it takes too long."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    inherited = os.environ.get("PYTHONPATH", "")
    if package is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(package.resolve()), inherited])
    command = [sys.executable, "-W", "ignore", "-m", "curves.alone", json.dumps(dataclasses.asdict(task))]
    try:
        ended = subprocess.run(  # noqa: S603  # this program's own module
            command, cwd=HERE, env=environment, timeout=limit, check=False, text=True, capture_output=True
        )
    except subprocess.TimeoutExpired:
        return None
    if ended.returncode:
        raise RuntimeError(f"{task} failed:\n{ended.stderr}")
    return Row(**json.loads(ended.stdout.splitlines()[-1]))


def done(row: Row | None) -> Row:
    """Return a row that had no time limit."""
    assert row is not None
    return row


def largest_error(net: str, row: Row | None) -> float:
    """Return the largest error of the values by magnitude, each relative to the reference value in its place."""
    values = sorted(done(row).values, key=abs, reverse=True)
    return max(abs(value / right - 1) for value, right in zip(values, REFERENCE[net], strict=False))


def residual_of(row: Row | None) -> float:
    """Return the largest residual of a row that has vectors."""
    residual = done(row).residual
    assert residual is not None
    return residual


def equal_tolerance(rows: Rows) -> float:
    """Return eigsh's residual, or the finest tolerance in float32: it asks at restarts only, and ends below its own."""
    return max(residual_of(rows[EIGSH]), FLOAT32_LIMIT)


def cells(net: str, row: Row | None, limit: float) -> list[str]:
    """Return the cells of a row."""
    if row is None:
        return ["not done", "", f"> {limit:.0f}", *[""] * 6]
    return [
        str(row.products),
        str(row.checked or ""),
        f"{row.wall:.1f}",
        f"{row.cpu:.1f}",
        f"{row.outside:.0%}",
        f"{row.peak / 1e6:.0f}",
        "" if row.residual is None else f"{row.residual:.1e}",
        f"{largest_error(net, row):.1e}" if row.values else "",
        row.said,
    ]


def requirements_of(net: str, rows: Rows) -> list[Requirement]:
    """Return what must hold on a net."""
    found = {name: row for name, row in rows.items() if row is not None}
    mine, alone_ = found[DEFAULT], found[ALONE]
    wanted = [certified(net, name, found[name]) for name in (DEFAULT, ALONE)]
    for name in (DEFAULT, ALONE):
        share = found[name].outside
        description = f"large: {net}, {name}: at most {OUTSIDE[net]:.0%} of the time is not products"
        wanted.append(Requirement(description, f"{share:.0%}", share <= OUTSIDE[net]))
    if net != "resnet":
        return wanted
    scipy = found[EIGSH].cpu
    residual = f"residual at most {equal_tolerance(rows):.1e}"
    at_defaults = f"{residual}; {alone_.cpu / scipy:.2f} at the default tolerance"
    checked = f"{residual}; {mine.cpu / scipy:.2f} at the default tolerance"
    return [
        *wanted,
        at_most(
            f"the search alone takes at most {SEARCH:g} of eigsh's CPU time",
            found[EQUAL].cpu / scipy,
            SEARCH,
            at_defaults,
        ),
        at_most(f"with the check at most {CHECKED:g}", found[EQUAL_CHECKED].cpu / scipy, CHECKED, checked),
        at_most(
            "as near as PyHessian, at most its CPU time",
            found[LOOSE].cpu / found[PYHESSIAN].cpu,
            1.0,
            found[LOOSE].said,
        ),
        at_most(f"the search needs at most {PEAK:g} GB", mine.peak / GIGA, PEAK),
        at_most(f"the density at most {DENSITY_PEAK:g} GB", found["density"].peak / GIGA, DENSITY_PEAK),
        at_most(f"the trace at most {TRACE_PEAK:g} GB", found["trace"].peak / GIGA, TRACE_PEAK),
    ]


def certified(net: str, name: str, row: Row) -> Requirement:
    """Return that residuals are within the default tolerance, and values within their residuals of the reference."""
    assert row.residual is not None
    true = REFERENCE[net]
    apart = max(abs(value - right) for value, right in zip(row.values, true, strict=False)) / abs(true[0])
    tolerance = Task.tolerance
    return Requirement(
        f"large: {net}, {name}: residual at most {tolerance:g}, values as near",
        f"{row.residual:.1e}, {apart:.1e}",
        max(row.residual, apart) <= tolerance * 1.01,
        accuracy=True,
    )


def at_most(description: str, measured: float, limit: float, said: str = "") -> Requirement:
    """Return a limit on the ResNet-18."""
    shown = f"{measured:.2f} ({said})" if said else f"{measured:.2f}"
    return Requirement(f"large: resnet, {description}", shown, measured <= limit)
