"""Rerun runs from their records on the terminal, and print how the two compare."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from optstudy.cli.output import print_table
from optstudy.errors import OptstudyError
from optstudy.execution.pool import WorkerPool
from optstudy.posthoc.reproduce.recorded import RecordedRun, recorded_in_archive, recorded_in_mlflow
from optstudy.posthoc.reproduce.rerun import Reproduction, reproduce
from optstudy.records.io import replace_nonfinite
from optstudy.records.location import Location
from optstudy.report.archive import RUNS, read_archive
from optstudy.report.tables.table import number_column, text_column
from optstudy.study.events import WorkDone
from optstudy.tracking import open_existing


def rerun(
    target: str,
    location: Location,
    worker_pool: WorkerPool,
    runs: Path | None,
    tolerance: float,
    device: str | None,
    *,
    quiet: bool,
) -> list[Reproduction]:
    """Rerun the runs that a name matches, with progress on standard error.

    Raises:
        UsageError: If the name matches no run.
        OptstudyError: If a run fails.
    """
    recorded = _recorded(target, location, runs)
    if device is not None:
        recorded = [run.on(device) for run in recorded]
    plan = recorded[0].plan
    worker_pool.check(plan.device)
    own = dict.fromkeys(name for run in recorded for name in run.plan.references)
    workers = worker_pool.workers(
        plan.device, plan.threads, deterministic=plan.deterministic, references=tuple(own)
    )
    with workers:
        reproductions = _watch(recorded, reproduce(recorded, workers, tolerance), quiet=quiet)
    order = [run.name for run in recorded]
    return sorted(reproductions, key=lambda one: order.index(one.name))


def _watch(
    recorded: list[RecordedRun], events: Iterator[WorkDone | Reproduction], *, quiet: bool
) -> list[Reproduction]:
    epochs = {run.name: run.plan.epochs for run in recorded}
    total, ended = sum(epochs.values()), 0
    reproductions: list[Reproduction] = []
    if not quiet:
        click.echo(f"rerunning {_counted(len(recorded), 'run')}, {total} epochs in all", err=True)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    try:
        with console.status("starting workers") as status:
            for event in events:
                if isinstance(event, Reproduction):
                    reproductions.append(event)
                elif event.record is not None:
                    ended += 1
                    epoch = f"epoch {event.record.epoch} of {epochs[event.run]}"
                    status.update(f"{event.run}: {epoch} ({ended} of {total})")
    except KeyboardInterrupt as error:
        raise OptstudyError(
            "interrupted; partial results were discarded, and the same command starts again"
        ) from error
    return reproductions


def _recorded(target: str, location: Location, runs: Path | None) -> list[RecordedRun]:
    if runs is None:
        return recorded_in_mlflow(open_existing(location), target)
    return recorded_in_archive(read_archive(runs.parent if runs.name == RUNS else runs), target)


def show_reproduction(one: Reproduction) -> None:
    """Print what differs here, the metrics that are not identical, and the verdict."""
    click.echo(one.name)
    if one.differing:
        print_table(
            [
                text_column("Differs here", one.differing),
                text_column("There", (there for there, _ in one.differing.values())),
                text_column("Here", (here for _, here in one.differing.values())),
            ]
        )
    else:
        click.echo("code, data and machine are as recorded")
    if one.unrecorded:
        click.echo(f"not recorded there: {', '.join(one.unrecorded)}")
    if one.absent:
        kinds = dict.fromkeys(name.partition("/")[0] for name in one.absent)
        click.echo(f"not compared, since missing from the record: {', '.join(kinds)}")
    for doubt in one.doubts:
        click.echo(f"the record contradicts itself: {doubt}")
    parted = [metric for metric in one.metrics if metric.judgement != "identical"]
    if parted:
        print_table(
            [
                text_column("Metric", (metric.metric for metric in parted)),
                text_column("Judgement", (metric.judgement for metric in parted)),
                number_column("Difference", (f"{metric.difference:.1e}" for metric in parted)),
                text_column("First parted at", (metric.parted for metric in parted)),
                text_column("There", (metric.there for metric in parted)),
                text_column("Here", (metric.here for metric in parted)),
            ]
        )
        names = [metric.metric for metric in one.metrics if metric.judgement == "identical"]
        click.echo(f"identical to the bit: {', '.join(names) or 'nothing'}")
    click.echo(_verdict(one))


def _verdict(one: Reproduction) -> str:
    values = sum(metric.values for metric in one.metrics)
    counted = f"{_counted(len(one.metrics), 'metric')} of {values:,} values"
    first = one.first_parted
    if first is None:
        ending = "identical to the bit" if not one.doubts else "the numbers agree, the record does not"
        return f"{one.name}: {ending}, {counted}"
    position = f"first parted at {first.parted} in {first.metric}: {first.there} there, {first.here} here"
    stated = f"within {one.tolerance:g}" if one.judgement == "within tolerance" else "different"
    return f"{one.name}: {stated}, {counted}; {position}"


def to_json(reproductions: list[Reproduction]) -> str:
    """Return what ``--json`` prints; a number that is not finite is None."""
    content = []
    for one in reproductions:
        first = one.first_parted
        shown = {
            "run": one.name,
            "judgement": one.judgement,
            "tolerance": one.tolerance,
            "first_parted": None if first is None else {"metric": first.metric, "at": first.parted},
            "differing": [
                {"what": what, "there": there, "here": here} for what, (there, here) in one.differing.items()
            ],
            "not_recorded": list(one.unrecorded),
            "absent": list(one.absent),
            "doubts": list(one.doubts),
            "metrics": [dataclasses.asdict(each) for each in one.metrics],
        }
        content.append(replace_nonfinite(shown))
    return json.dumps(content, indent=2) + "\n"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
