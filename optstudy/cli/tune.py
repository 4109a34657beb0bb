"""`optstudy tune`."""

from pathlib import Path
from typing import Any

import click

from optstudy.cli import options


@click.command()
@options.optimizers
@options.study
@options.tuned
@click.option("--epochs", type=click.IntRange(1), help="Epochs of a trial.")
@options.described
@options.running
@options.as_json
def tune(
    study: str | None,
    optimizers: tuple[str, ...],
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
    """Search the best hyperparameters of each optimizer.

    Example: optstudy tune --opt sgd --opt adam --trials 20 --epochs 5
    """
    from optstudy.cli.showing import next_step, show_best
    from optstudy.cli.watching import watch
    from optstudy.study import Study

    name = study or "main"
    chosen = options.names_of(optimizers, workspace)
    asked = options.settings_of(settings, tune_epochs=epochs, **flags)
    first = {"optimizers": chosen} if chosen else {}
    made = Study(
        name, workspace=workspace, tracking_uri=tracking_uri, jobs=jobs, data_dir=data_dir, **first, **asked
    )
    watch(made.run("tuning", optimizers=chosen), quiet=quiet)
    show_best(made, chosen or made.specification.optimizers, as_json=as_json)
    next_step("optstudy train", workspace=workspace, tracking_uri=tracking_uri, study=study, quiet=quiet,
              optimizers=chosen)  # fmt: skip
