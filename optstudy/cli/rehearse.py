"""`optstudy rehearse`."""

from typing import Any

import click

from optstudy.cli import options
from optstudy.cli.echo import echo
from optstudy.execution.pool import WorkerPool
from optstudy.records.location import Location


@click.command()
@click.option(
    "--preset", metavar="NAME", help="Settings of the study: smoke, quick, mnist, paper, or your own."
)
@click.option("--study", "name", metavar="NAME", help="The study's name; by default the preset's.")
@options.running(tuning=True, training=True)
@options.as_json
def rehearse(
    preset: str | None,
    name: str | None,
    location: Location,
    worker_pool: WorkerPool,
    quiet: bool,
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    """Prove in small that a study can run, without running it: data, model, loss and every optimizer.

    `study`, `tune` and `train` begin with the same rehearsal. Nothing is written.

    Example: optstudy rehearse --preset quick --opt sgd --model net.py:make
    """
    from optstudy.cli.output import show_rehearsals
    from optstudy.cli.retry import command_as

    name = name or preset or "quick"
    opened = options.open_study(name, location, worker_pool, settings, preset)
    estimate = opened.estimate()
    show_rehearsals(estimate, as_json=as_json)
    for remark in estimate.remarks:
        echo(f"note: {remark}", err=True)
    if not quiet:
        echo(f"next: {command_as('study')}", err=True)
