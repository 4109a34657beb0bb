"""Reruns runs from their records, and prints how the two compare."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from optstudy.cli.options import Where
from optstudy.cli.output import print_table
from optstudy.errors import OptstudyError
from optstudy.posthoc.reproduce import (
    RecordedRun,
    Reproduced,
    recorded_in_archive,
    recorded_in_mlflow,
    reproduce,
)
from optstudy.records.io import plain
from optstudy.report.archive import RUNS, read_archive
from optstudy.report.tables.table import numbers, words
from optstudy.study.events import WorkDone
from optstudy.tracking import open_written


def reproduced(
    target: str, where: Where, runs: Path | None, tolerance: float, device: str | None
) -> list[Reproduced]:
    """Rerun the runs that a name matches, with progress on standard error.

    Raises:
        UsageError: If the name matches no run.
        OptstudyError: If a run fails.
    """
    recorded = _recorded(target, where, runs)
    if device is not None:
        recorded = [run.on(device) for run in recorded]
    plan = recorded[0].plan
    where.worker_pool.check(plan.device)
    own = dict.fromkeys(name for run in recorded for name in run.plan.references)
    workers = where.worker_pool.workers(
        plan.device, plan.threads, deterministic=plan.deterministic, references=tuple(own)
    )
    with workers:
        found = _watched(recorded, reproduce(recorded, workers, tolerance), quiet=where.quiet)
    order = [run.name for run in recorded]
    return sorted(found, key=lambda one: order.index(one.name))


def _watched(
    recorded: list[RecordedRun], events: Iterator[WorkDone | Reproduced], *, quiet: bool
) -> list[Reproduced]:
    epochs = {run.name: run.plan.epochs for run in recorded}
    total, ended, found = sum(epochs.values()), 0, []
    if not quiet:
        click.echo(f"rerunning {_counted(len(recorded), 'run')}, {total} epochs in all", err=True)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    try:
        with console.status("starting workers") as status:
            for event in events:
                if isinstance(event, Reproduced):
                    found.append(event)
                elif event.record is not None:
                    ended += 1
                    epoch = f"epoch {event.record.epoch} of {epochs[event.run]}"
                    status.update(f"{event.run}: {epoch} ({ended} of {total})")
    except KeyboardInterrupt as error:
        raise OptstudyError(
            "interrupted; partial results were discarded, and the same command starts again"
        ) from error
    return found


def _recorded(target: str, where: Where, runs: Path | None) -> list[RecordedRun]:
    if runs is None:
        return recorded_in_mlflow(open_written(where), target)
    return recorded_in_archive(read_archive(runs.parent if runs.name == RUNS else runs), target)


def show_reproduced(one: Reproduced) -> None:
    """Print what differs here, the metrics that are not identical, and the verdict."""
    click.echo(one.name)
    if one.differing:
        print_table(
            [
                words("Differs here", one.differing),
                words("There", (there for there, _ in one.differing.values())),
                words("Here", (here for _, here in one.differing.values())),
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
                words("Metric", (metric.metric for metric in parted)),
                words("Judgement", (metric.judgement for metric in parted)),
                numbers("Difference", (f"{metric.difference:.1e}" for metric in parted)),
                words("First parted at", (metric.parted for metric in parted)),
                words("There", (metric.there for metric in parted)),
                words("Here", (metric.here for metric in parted)),
            ]
        )
        names = [metric.metric for metric in one.metrics if metric.judgement == "identical"]
        click.echo(f"identical to the bit: {', '.join(names) or 'nothing'}")
    click.echo(_verdict(one))


def _verdict(one: Reproduced) -> str:
    values = sum(metric.values for metric in one.metrics)
    counted = f"{_counted(len(one.metrics), 'metric')} of {values:,} values"
    first = one.first_parted
    if first is None:
        ending = "identical to the bit" if not one.doubts else "the numbers agree, the record does not"
        return f"{one.name}: {ending}, {counted}"
    where = f"first parted at {first.parted} in {first.metric}: {first.there} there, {first.here} here"
    stated = f"within {one.tolerance:g}" if one.judgement == "within tolerance" else "different"
    return f"{one.name}: {stated}, {counted}; {where}"


def to_json(found: list[Reproduced]) -> str:
    """Return what ``--json`` prints; a number that is not finite is None."""
    content = []
    for one in found:
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
        content.append(plain(shown))
    return json.dumps(content, indent=2) + "\n"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
