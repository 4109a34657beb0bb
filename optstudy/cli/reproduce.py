"""`optstudy reproduce`."""

import math
from pathlib import Path

import click

from optstudy.cli import options
from optstudy.execution.pool import WorkerPool
from optstudy.records.location import Location


@click.command()
@click.argument("target", metavar="RUN")
@click.option(
    "--runs",
    type=options.SystemPath(),
    metavar="PATH",
    help="A report's runs.json, or its folder, in place of MLflow.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.01,
    show_default=True,
    help="Largest difference of a metric, as a fraction of it, that counts as within tolerance.",
)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; by default the run's.")
@options.trust
@options.computing
@options.as_json
def reproduce(
    *,
    location: Location,
    worker_pool: WorkerPool,
    quiet: bool,
    target: str,
    runs: Path | None,
    tolerance: float,
    device: str | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Rerun a run from its record, and compare the results metric by metric.

    RUN is STUDY/RUN, a run ID or a unique prefix of one; STUDY/OPTIMIZER and STUDY mean all of their final runs.
    Differences in the environment (versions, device, driver, threads) are printed first. The exit status is 1 if a
    metric differs by more than the tolerance, or if the record contradicts itself. A record from elsewhere (a report's
    files, or a server) that names code is refused without --trust.

    Example: optstudy reproduce quick/sgd/seed-0
    """
    from optstudy.cli.output import update_moved_workspace
    from optstudy.cli.reproduce_output import rerun, show_reproduction, to_json
    from optstudy.errors import OptstudyError, UsageError

    if math.isnan(tolerance):
        raise UsageError("--tolerance is nan; give a fraction such as 0.01")
    if runs is None:
        update_moved_workspace(location)
    reproductions = rerun(target, location, worker_pool, runs, tolerance, device, trust=trust, quiet=quiet)
    if as_json:
        click.echo(to_json(reproductions), nl=False)
    else:
        for reproduction in reproductions:
            show_reproduction(reproduction)
    different = [reproduction.name for reproduction in reproductions if reproduction.judgement == "different"]
    if different:
        raise OptstudyError(
            f"{len(different)} of {len(reproductions)} runs differ from their record: {different[0]}"
        )
