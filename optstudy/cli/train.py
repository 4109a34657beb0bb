"""`optstudy train`."""

from typing import Any

import click

from optstudy.cli import options
from optstudy.execution.pool import WorkerPool
from optstudy.records.location import Location
from optstudy.records.naming import CONFIGS


@click.command()
@click.option(
    "--config",
    "chosen",
    multiple=True,
    type=click.Choice(CONFIGS),
    default=("best",),
    show_default="best",
    help="Source of the hyperparameters; may be repeated.",
)
@options.study
@options.running(training=True)
@options.accept_sources
@options.as_json
def train(
    study: str | None,
    chosen: tuple[str, ...],
    location: Location,
    worker_pool: WorkerPool,
    quiet: bool,
    settings: dict[str, Any],
    accept_sources: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train configurations over several seeds on all training examples; report the test set.

    Example: optstudy train --opt sgd --seeds 3 --epochs 10
    """
    from optstudy.cli.output import next_step, show_comparison
    from optstudy.cli.progress import watch

    opened = options.open_study(study or "main", location, worker_pool, settings)
    watch(
        opened.run(
            "training", optimizers=settings.get("optimizers"), configs=chosen, accept_sources=accept_sources
        ),
        quiet=quiet,
    )
    show_comparison(opened.compare(), as_json=as_json)
    next_step("optstudy compare", location, quiet=quiet, study=study)
