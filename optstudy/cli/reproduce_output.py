"""Rerun runs with progress on the terminal, and print their comparison with the record."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from optstudy.cli.echo import echo
from optstudy.cli.output import print_table
from optstudy.errors import OptstudyError
from optstudy.execution.pool import WorkerPool
from optstudy.posthoc.reproduce.recorded import RecordedRun, recorded_in_archive, recorded_in_mlflow
from optstudy.posthoc.reproduce.rerun import Reproduction, reproduce
from optstudy.posthoc.trust import check_trust
from optstudy.records.evidence import unchecked_notice
from optstudy.records.io import replace_nonfinite
from optstudy.records.location import Location
from optstudy.records.printable import printable
from optstudy.report.archive import RUNS, read_archive
from optstudy.report.tables.table import count_label, number_column, text_column
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
    trust: bool,
    quiet: bool,
) -> list[Reproduction]:
    """Rerun the runs that match a name, with progress on standard error.

    Code that a record from elsewhere names is listed before it is imported, also with ``quiet``.

    Raises:
        UsageError: If no run matches the name, or a record from elsewhere names code and is not trusted.
        OptstudyError: If a run fails.
    """
    recorded = _recorded(target, location, runs)
    listing = check_trust([run.code for run in recorded], trust=trust)
    for line in listing.lines:
        echo(f"note: {line}", err=True)
    if notice := unchecked_notice(sum(not run.has_checksums for run in recorded)):
        echo(f"note: {notice}", err=True)
    if device is not None:
        recorded = [run.on(device) for run in recorded]
    plan = recorded[0].plan
    worker_pool.check(plan.device)
    references = dict.fromkeys(name for run in recorded for name in run.plan.references)
    workers = worker_pool.workers(
        plan.device,
        plan.threads,
        deterministic=plan.deterministic,
        references=tuple(references),
        listed=listing.files,
    )
    with workers:
        reproductions = _watch(recorded, reproduce(recorded, workers, tolerance), quiet=quiet)
    order = [run.name for run in recorded]
    return sorted(reproductions, key=lambda reproduction: order.index(reproduction.name))


def _watch(
    recorded: list[RecordedRun], events: Iterator[WorkDone | Reproduction], *, quiet: bool
) -> list[Reproduction]:
    epochs = {run.name: run.plan.epochs for run in recorded}
    total, ended = sum(epochs.values()), 0
    reproductions: list[Reproduction] = []
    if not quiet:
        echo(f"rerunning {count_label('run', [len(recorded)])}, {total} epochs in all", err=True)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    try:
        with console.status("starting workers") as status:
            for event in events:
                if isinstance(event, Reproduction):
                    reproductions.append(event)
                elif event.record is not None:
                    ended += 1
                    epoch = f"epoch {event.record.epoch} of {epochs[event.run]}"
                    status.update(Text(printable(f"{event.run}: {epoch} ({ended} of {total})")))
    except KeyboardInterrupt as error:
        raise OptstudyError(
            "interrupted; partial results were discarded; run the same command again to restart"
        ) from error
    return reproductions


def _recorded(target: str, location: Location, runs: Path | None) -> list[RecordedRun]:
    if runs is None:
        return recorded_in_mlflow(open_existing(location), target, location.workspace)
    return recorded_in_archive(read_archive(runs.parent if runs.name == RUNS else runs), target)


def show_reproduction(reproduction: Reproduction) -> None:
    """Print the differences in the environment, the metrics that are not identical, and the verdict."""
    echo(reproduction.name)
    if reproduction.differing:
        print_table(
            [
                text_column("Environment", reproduction.differing),
                text_column("Recorded", (recorded for recorded, _ in reproduction.differing.values())),
                text_column("Now", (now for _, now in reproduction.differing.values())),
            ]
        )
    else:
        echo("code, data and machine match the record")
    if reproduction.unrecorded:
        echo(f"not recorded: {', '.join(reproduction.unrecorded)}")
    if reproduction.absent:
        kinds = dict.fromkeys(name.partition("/")[0] for name in reproduction.absent)
        echo(f"not compared, since missing from the record: {', '.join(kinds)}")
    for contradiction in reproduction.contradictions:
        echo(f"the record contradicts itself: {contradiction}")
    different = [metric for metric in reproduction.metrics if metric.judgement != "identical"]
    if different:
        print_table(
            [
                text_column("Metric", (metric.metric for metric in different)),
                text_column("Judgement", (metric.judgement for metric in different)),
                number_column("Difference", (f"{metric.difference:.1e}" for metric in different)),
                text_column("First difference", (metric.parted for metric in different)),
                text_column("Recorded", (metric.there for metric in different)),
                text_column("Rerun", (metric.here for metric in different)),
            ]
        )
        names = [metric.metric for metric in reproduction.metrics if metric.judgement == "identical"]
        echo(f"identical to the bit: {', '.join(names) or 'nothing'}")
    echo(_verdict(reproduction))


def _verdict(reproduction: Reproduction) -> str:
    values = sum(metric.values for metric in reproduction.metrics)
    counted = f"{count_label('metric', [len(reproduction.metrics)])} of {values:,} values"
    first = reproduction.first_difference
    if first is None:
        ending = (
            "identical to the bit"
            if not reproduction.contradictions
            else "the metrics are identical, but the record contradicts itself"
        )
        return f"{reproduction.name}: {ending}, {counted}"
    position = f"first differ at {first.parted} in {first.metric}: {first.there} recorded, {first.here} rerun"
    judgement = (
        f"within {reproduction.tolerance:g}" if reproduction.judgement == "within tolerance" else "different"
    )
    return f"{reproduction.name}: {judgement}, {counted}; {position}"


def to_json(reproductions: list[Reproduction]) -> str:
    """Return the output of ``--json``; a number that is not finite becomes null."""
    content = []
    for reproduction in reproductions:
        first = reproduction.first_difference
        reproduction_json = {
            "run": reproduction.name,
            "judgement": reproduction.judgement,
            "tolerance": reproduction.tolerance,
            "first_parted": None if first is None else {"metric": first.metric, "at": first.parted},
            "differing": [
                {"what": what, "there": there, "here": here}
                for what, (there, here) in reproduction.differing.items()
            ],
            "not_recorded": list(reproduction.unrecorded),
            "absent": list(reproduction.absent),
            "doubts": list(reproduction.contradictions),
            "metrics": [dataclasses.asdict(metric) for metric in reproduction.metrics],
        }
        content.append(replace_nonfinite(reproduction_json))
    return json.dumps(content, indent=2) + "\n"
