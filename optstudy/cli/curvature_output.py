"""Carries out a curvature request on the terminal, and prints and writes its results."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console

from optstudy.cli.options import Where
from optstudy.cli.output import print_table
from optstudy.errors import OptstudyError, UsageError
from optstudy.posthoc.curvature import measure_request
from optstudy.posthoc.request import CurvatureRequest
from optstudy.records.curvature import CurvatureResult, Floats
from optstudy.records.io import write_bytes
from optstudy.report.tables.table import numbers, words
from optstudy.study.events import Notice

RESULT = "curvature.json"  # always written beside the figures
MANY = 10_000  # images, on which a product takes about a second


def measure(request: CurvatureRequest, where: Where) -> list[CurvatureResult]:
    """Carry out a curvature request, with progress on standard error; results in the order of the request.

    Raises:
        OptstudyError: If a measurement failed, or the command was interrupted.
    """
    found: list[CurvatureResult] = []
    console, expected = Console(stderr=True, quiet=where.quiet, highlight=False), 0
    try:
        with console.status("reading") as status:
            for event in measure_request(request, where, where.worker_pool):
                match event:
                    case Notice(text):
                        click.echo(f"note: {text}", err=True)
                        continue
                    case CurvatureResult():
                        found.append(event)
                        line = _reported(event, request)
                    case sizes:
                        expected, line = len(sizes), _announced(sizes)
                if not where.quiet:
                    click.echo(line, err=True)
                status.update(f"measured {len(found)} of {expected}")
    except KeyboardInterrupt as error:
        raise OptstudyError("interrupted; partial measurements were discarded") from error
    return sorted(found, key=lambda one: (one.run, request.at.index(one.at), one.samples, one.seed))


def _announced(sizes: Sequence[int]) -> str:
    """Return the line that announces the measurements."""
    count, largest = len(sizes), max(sizes)
    times = "once" if count == 1 else f"{count} times"
    long = "; that many take minutes each" if largest >= MANY else ""
    return f"measuring {times}, on {_counted(largest)}{' at most' * (count > 1)}{long}"


def _reported(one: CurvatureResult, request: CurvatureRequest) -> str:
    draw = f", draw {one.seed}" if request.sweep else ""
    return f"measured {one.run} at its {one.at} on {_counted(one.samples)}{draw}"


def _counted(images: int) -> str:
    return f"{images:,} image{'s' * (images != 1)}"


def show_results(found: Sequence[CurvatureResult]) -> None:
    """Print a table of measurements."""
    print_table(
        [
            words("Run", (one.run for one in found)),
            words("At", (one.at for one in found)),
            numbers("Images", (f"{one.samples:,}" for one in found)),
            words("Eigenvalues", map(_eigenvalues, found)),
            words("Ratio", (_interval(one.ratio) if len(one.values) > 1 else "" for one in found)),
            words("Verdict", (one.verdict if len(one.values) > 1 else "" for one in found)),
            numbers("Loss", (f"{one.loss:.3g}" for one in found)),
            numbers("Gradient", (f"{one.gradient_norm:.3g}" for one in found)),
            numbers("Products", (str(one.products) for one in found)),
            words("In", (one.dtype for one in found)),
        ]
    )
    for one in found:
        if more := _further(one):
            click.echo(f"{one.run} at its {one.at}: {more}")
    click.echo(_explained(found))
    _say_unconverged(found)


def _eigenvalues(one: CurvatureResult) -> str:
    pairs = zip(one.values, one.residuals, strict=True)
    return ", ".join(f"{value:.4g} ± {residual:.0e}" for value, residual in pairs)


def _explained(found: Sequence[CurvatureResult]) -> str:
    k, worst = len(found[0].values), max(one.probability for one in found)
    missed = "a larger eigenvalue" if k == 1 else f"one larger than the last of the {k}"
    sentences = [
        "± is the residual, Gradient the norm of the loss's gradient, In the precision that was used.",
        f"The probability that {missed} was missed is at most {worst:.2g}.",
    ]
    if k > 1:
        sentences.append("The ratio's interval holds if none was.")
    if worst > 1 / 2:
        sentences.append(
            "The probability is large where the next eigenvalue is as large as the last one shown."
        )
    return " ".join(sentences)


def _further(one: CurvatureResult) -> str:
    parts = []
    if len(one.grid):
        parts.append(f"trace {_interval(one.trace)}")
    if len(one.line):
        rise = f"{one.loss_rise:.4g}"
        parts.append(f"the loss rises by {rise} at distance 1 along the first eigenvector")
    return "; ".join(parts)


def _interval(numbers: Floats) -> str:
    value, low, high = numbers
    return f"{value:.4g} [{low:.4g}, {high:.4g}]"


def show_sweep(found: Sequence[CurvatureResult]) -> None:
    """Print a table of measurements on samples of many sizes: mean and range over the draws of each."""
    groups: dict[tuple[str, str, int], list[CurvatureResult]] = {}
    for one in found:
        groups.setdefault((one.run, one.at, one.samples), []).append(one)
    print_table(
        [
            words("Run", (run for run, _, _ in groups)),
            words("At", (at for _, at, _ in groups)),
            numbers("Images", (f"{samples:,}" for _, _, samples in groups)),
            numbers("Draws", (str(len(draws)) for draws in groups.values())),
            words(
                "|First eigenvalue|",
                (_spread([abs(d.values[0]) for d in draws]) for draws in groups.values()),
            ),
            words("Ratio", (_spread([d.ratio[0] for d in draws]) for draws in groups.values())),
            words("Verdicts", map(_verdicts, groups.values())),
        ]
    )
    click.echo("Mean over the draws, and their range. --json has each of them with its interval.")
    _say_unconverged(found)


def _verdicts(draws: Sequence[CurvatureResult]) -> str:
    counts = Counter(one.verdict for one in draws)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def _spread(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.4g}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.4g}, {max(values):.4g}]"


def _say_unconverged(found: Sequence[CurvatureResult]) -> None:
    if not all(one.converged for one in found):
        click.echo("Not all eigenvalues have converged; their intervals are wide.")


def check_output(folder: Path) -> None:
    """Check that results can be written to a folder, before anything is measured.

    Raises:
        UsageError: If it already holds results.
        OptstudyError: If it cannot be written.
    """
    if (folder / RESULT).exists():
        raise UsageError(f"{folder / RESULT} already exists; give another --output")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise OptstudyError(f"cannot write {folder}: {there} is not a writable folder")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files to a folder, without overwriting any.

    Raises:
        UsageError: If one of them already exists.
        OptstudyError: If the folder cannot be written.
    """
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise UsageError(f"{folder / there[0]} already exists; give another --output")
    for name, data in files.items():
        write_bytes(folder / name, data)
    click.echo(f"Saved to {folder}: {', '.join(files)}", err=True)


def json_bytes(found: Sequence[CurvatureResult], request: CurvatureRequest) -> bytes:
    """Return measurements as JSON: an object if the request names a single one, else a list."""
    study = request.target is not None and found[0].run.startswith(f"{request.target}/")
    several = study or request.sweep or len(request.at) > 1
    shown = [one.to_dict() for one in found]
    return (json.dumps(shown if several else shown[0], indent=2, allow_nan=False) + "\n").encode()
