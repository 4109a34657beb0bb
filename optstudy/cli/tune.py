"""`optstudy tune`."""

from typing import Any

import click

from optstudy.cli import options
from optstudy.execution.pool import WorkerPool
from optstudy.records.location import Location


@click.command()
@options.study
@options.running(tuning=True)
@options.accept_sources
@options.as_json
def tune(
    study: str | None,
    location: Location,
    worker_pool: WorkerPool,
    quiet: bool,
    settings: dict[str, Any],
    accept_sources: tuple[str, ...],
    as_json: bool,
) -> None:
    """Search for the best hyperparameters of each optimizer.

    Example: optstudy tune --opt sgd --opt adam --trials 20 --epochs 5
    """
    from optstudy.cli.output import next_step, show_best
    from optstudy.cli.progress import watch

    opened = options.open_study(study or "main", location, worker_pool, settings)
    chosen = settings.get("optimizers")
    watch(opened.run("tuning", optimizers=chosen, accept_sources=accept_sources), quiet=quiet)
    show_best(opened, chosen or opened.specification.optimizers, as_json=as_json)
    next_step("optstudy train", location, quiet=quiet, study=study, optimizers=chosen or ())
