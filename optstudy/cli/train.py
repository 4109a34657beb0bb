"""`optstudy train`."""

from pathlib import Path
from typing import Any

import click

from optstudy.cli import options
from optstudy.specification import CONFIGS


@click.command()
@options.optimizers
@options.study
@click.option(
    "--config",
    "configs",
    multiple=True,
    type=click.Choice(CONFIGS),
    default=("best",),
    show_default="best",
    help="Where hyperparameters come from. May be repeated.",
)
@click.option("--seeds", type=click.IntRange(1), help="Runs of each configuration: 3 means seeds 0, 1, 2.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of a run.")
@options.described
@options.running
@options.as_json
def train(
    study: str | None,
    optimizers: tuple[str, ...],
    configs: tuple[str, ...],
    epochs: int | None,
    settings: tuple[str, ...],
    workspace: Path,
    tracking_uri: str | None,
    jobs: int | None,
    data_dir: Path | None,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train configurations over several seeds on all training images; report the test set.

    Example: optstudy train --opt sgd --seeds 3 --epochs 10
    """
    from optstudy.cli.showing import next_step, show_comparison
    from optstudy.cli.watching import watch
    from optstudy.study import Study

    name = study or "main"
    chosen = options.names_of(optimizers, workspace)
    asked = options.settings_of(settings, train_epochs=epochs, **flags)
    first = {"optimizers": chosen} if chosen else {}
    made = Study(
        name, workspace=workspace, tracking_uri=tracking_uri, jobs=jobs, data_dir=data_dir, **first, **asked
    )
    watch(made.run("training", optimizers=chosen, configs=configs), quiet=quiet)
    show_comparison(made.compare(), as_json=as_json)
    next_step("optstudy compare", workspace=workspace, tracking_uri=tracking_uri, study=study, quiet=quiet)
