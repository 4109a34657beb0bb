"""`optstudy study`."""

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
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the plan and an estimate of its time and disk space, without running it.",
)
@options.running(tuning=True, training=True)
@options.accept_sources
@options.as_json
def study(
    *,
    preset: str | None,
    name: str | None,
    dry_run: bool,
    location: Location,
    worker_pool: WorkerPool,
    quiet: bool,
    settings: dict[str, Any],
    accept_sources: tuple[str, ...],
    as_json: bool,
) -> None:
    """Tune every optimizer, retrain the best configurations, and compare.

    Example: optstudy study --preset quick
    """
    from optstudy.cli.output import next_step, show_comparison, show_plan
    from optstudy.cli.progress import watch
    from optstudy.cli.retry import command_without

    name = name or preset or "quick"
    opened = options.open_study(name, location, worker_pool, settings, preset)
    if dry_run:
        estimate = opened.estimate()
        show_plan(opened, estimate, as_json=as_json)
        for remark in estimate.remarks:
            echo(f"note: {remark}", err=True)
        echo(f"next: {command_without('--dry-run')}", err=True)
        return
    watch(opened.run(accept_sources=accept_sources), quiet=quiet)
    show_comparison(opened.compare(), as_json=as_json)
    next_step("optstudy ui", location, quiet=quiet, study=name)
