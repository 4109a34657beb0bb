"""`optstudy train`."""

from typing import Any

import click

from optstudy.cli import options
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
@options.as_json
def train(
    study: str | None, chosen: tuple[str, ...], where: options.Where, settings: dict[str, Any], as_json: bool
) -> None:
    """Train configurations over several seeds on all training images; report the test set.

    Example: optstudy train --opt sgd --seeds 3 --epochs 10
    """
    from optstudy.cli.output import next_step, show_comparison
    from optstudy.cli.progress import watch

    made = where.open_study(study or "main", settings)
    watch(made.run("training", optimizers=settings.get("optimizers"), configs=chosen), quiet=where.quiet)
    show_comparison(made.compare(), as_json=as_json)
    next_step("optstudy compare", where, study=study)
