"""Carry out a curvature request on the terminal, and print and write its results."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from optstudy.cli.echo import echo
from optstudy.cli.output import print_table
from optstudy.cli.progress import progress_bar
from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.pool import WorkerPool
from optstudy.posthoc.curvature import measure_request
from optstudy.posthoc.request import CurvatureRequest
from optstudy.records import io
from optstudy.records.curvature import CurvatureResult, Floats
from optstudy.records.location import Location
from optstudy.records.printable import printable
from optstudy.report.tables.table import count_label, number_column, text_column
from optstudy.study.events import Notice
from optstudy.training.curvature import CurvatureProgress

RESULT = "curvature.json"  # always written in addition to the figures
LARGE_SAMPLE = 10_000  # images; a Hessian product takes about a second


def measure(
    request: CurvatureRequest, location: Location, worker_pool: WorkerPool, *, quiet: bool
) -> list[CurvatureResult]:
    """Carry out a curvature request, with progress on standard error; results in the order of the request.

    Raises:
        OptstudyError: If a measurement failed, or the command was interrupted.
    """
    results: list[CurvatureResult] = []
    try:
        with progress_bar(Console(stderr=True, quiet=quiet, highlight=False)) as bar:
            whole = bar.add_task("reading", total=None)
            running: dict[tuple[str, str, int], TaskID] = {}
            for event in measure_request(request, location, worker_pool):
                match event:
                    case Notice(text):
                        echo(f"note: {text}", err=True)
                        continue
                    case CurvatureProgress():
                        show_progress(bar, running, event)
                        continue
                    case CurvatureResult():
                        results.append(event)
                        line = _progress_line(event, request)
                        if (key := _key(event)) in running:
                            bar.remove_task(running.pop(key))
                        bar.advance(whole)
                    case sizes:
                        line = _announcement(sizes)
                        bar.update(whole, description="measured", total=len(sizes))
                if not quiet:
                    echo(line, err=True)
    except KeyboardInterrupt as error:
        raise OptstudyError("interrupted; partial measurements were discarded") from error
    return sorted(
        results, key=lambda result: (result.run, request.at.index(result.at), result.samples, result.seed)
    )


def _key(event: CurvatureProgress | CurvatureResult) -> tuple[str, str, int]:
    return event.run, event.at, event.seed


def show_progress(
    bar: Progress, running: dict[tuple[str, str, int], TaskID], event: CurvatureProgress
) -> None:
    """Show how far a measurement is, in a line of its own."""
    key, description = _key(event), printable(f"{event.run} at its {event.at}: {event.part}")
    if key not in running:
        running[key] = bar.add_task(description, total=event.total)
    line = running[key]
    if bar.tasks[bar.task_ids.index(line)].description != description:  # the next part
        bar.reset(line, total=event.total, description=description)
    bar.update(line, completed=event.done)


def _announcement(sizes: Sequence[int]) -> str:
    """Return the line that announces the measurements."""
    count, largest = len(sizes), max(sizes)
    times = "once" if count == 1 else f"{count} times"
    duration = "; each may take minutes" if largest >= LARGE_SAMPLE else ""
    return f"measuring {times}, on {count_label('example', [largest])}{' at most' * (count > 1)}{duration}"


def _progress_line(result: CurvatureResult, request: CurvatureRequest) -> str:
    draw = f", draw {result.seed}" if request.sweep else ""
    return f"measured {result.run} at its {result.at} on {count_label('example', [result.samples])}{draw}"


def show_results(results: Sequence[CurvatureResult]) -> None:
    """Print a table of measurements."""
    print_table(
        [
            text_column("Run", (result.run for result in results)),
            text_column("At", (result.at for result in results)),
            number_column("Examples", (f"{result.samples:,}" for result in results)),
            text_column("Eigenvalues", map(_eigenvalues, results)),
            text_column(
                "Ratio", (_interval(result.ratio) if len(result.values) > 1 else "" for result in results)
            ),
            text_column("Verdict", (result.verdict if len(result.values) > 1 else "" for result in results)),
            text_column("Sign", (result.sign for result in results)),
            number_column("Loss", (f"{result.loss:.3g}" for result in results)),
            number_column("Gradient", (f"{result.gradient_norm:.3g}" for result in results)),
            number_column("Products", (str(result.products) for result in results)),
            text_column("dtype", (result.dtype for result in results)),
        ]
    )
    for result in results:
        if more := _trace_and_rise(result):
            echo(f"{result.run} at its {result.at}: {more}")
    echo(_caption(results))
    _warn_if_unconverged(results)


def _eigenvalues(result: CurvatureResult) -> str:
    pairs = zip(result.values, result.residuals, strict=True)
    return ", ".join(f"{value:.4g} ± {residual:.0e}" for value, residual in pairs)


def _caption(results: Sequence[CurvatureResult]) -> str:
    k, probability = len(results[0].values), max(result.probability for result in results)
    missed = "a larger eigenvalue" if k == 1 else f"an eigenvalue larger than the last of the {k}"
    sentences = [
        "± is the residual, Gradient the norm of the loss's gradient, and dtype the precision.",
        f"The probability that {missed} was missed is at most {probability:.2g}.",
    ]
    if k > 1:
        sentences.append("The ratio's interval is valid if no eigenvalue was missed.")
    if probability > 1 / 2:
        sentences.append("The probability is large if the next eigenvalue is as large as the last one shown.")
    return " ".join(sentences)


def _trace_and_rise(result: CurvatureResult) -> str:
    parts = []
    if len(result.grid):
        parts.append(f"trace {_interval(result.trace)}")
    if len(result.line):
        rise = f"{result.loss_rise:.4g}"
        parts.append(f"the loss rises by {rise} at distance 1 along the first eigenvector")
    return "; ".join(parts)


def _interval(numbers: Floats) -> str:
    value, low, high = numbers
    return f"{value:.4g} [{low:.4g}, {high:.4g}]"


def show_sweep(results: Sequence[CurvatureResult]) -> None:
    """Print the mean and range of measurements over the draws of each sample size, as a table."""
    groups: dict[tuple[str, str, int], list[CurvatureResult]] = {}
    for result in results:
        groups.setdefault((result.run, result.at, result.samples), []).append(result)
    print_table(
        [
            text_column("Run", (run for run, _, _ in groups)),
            text_column("At", (at for _, at, _ in groups)),
            number_column("Examples", (f"{samples:,}" for _, _, samples in groups)),
            number_column("Draws", (str(len(draws)) for draws in groups.values())),
            text_column(
                "|First eigenvalue|",
                (_spread([abs(draw.values[0]) for draw in draws]) for draws in groups.values()),
            ),
            text_column("Ratio", (_spread([draw.ratio[0] for draw in draws]) for draws in groups.values())),
            text_column("Verdicts", (_counts(draw.verdict for draw in draws) for draws in groups.values())),
            text_column("Signs", (_counts(draw.sign for draw in draws) for draws in groups.values())),
        ]
    )
    echo("Mean and range over the draws. --json prints each draw with its interval.")
    _warn_if_unconverged(results)


def _counts(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())


def _spread(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.4g}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.4g}, {max(values):.4g}]"


def _warn_if_unconverged(results: Sequence[CurvatureResult]) -> None:
    if not all(result.converged for result in results):
        echo("Not all eigenvalues have converged; their intervals are wide.")


def check_output(folder: Path) -> None:
    """Check that results can be written to a folder, before anything is measured.

    Raises:
        UsageError: If it already holds results.
        OptstudyError: If it cannot be written.
    """
    if (folder / RESULT).exists():
        raise UsageError(f"{folder / RESULT} already exists; give another --output")
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise OptstudyError(f"cannot write {folder}: {existing} is not a writable folder")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files to a folder, without overwriting any.

    Raises:
        UsageError: If one of them already exists.
        OptstudyError: If the folder cannot be written.
    """
    existing = [name for name in files if (folder / name).exists()]
    if existing:
        raise UsageError(f"{folder / existing[0]} already exists; give another --output")
    io.write_files(folder, files)
    echo(f"Saved to {folder}: {', '.join(files)}", err=True)


def json_bytes(results: Sequence[CurvatureResult], request: CurvatureRequest) -> bytes:
    """Return measurements as JSON: an object if a single measurement was requested, else a list."""
    study = request.target is not None and results[0].run.startswith(f"{request.target}/")
    is_list = study or request.sweep or len(request.at) > 1
    content = [result.to_dict() for result in results]
    return (json.dumps(content if is_list else content[0], indent=2, allow_nan=False) + "\n").encode()
