"""`optstudy tune`."""

from typing import Any

import click

from optstudy.cli import options


@click.command()
@options.study
@options.running(tuning=True)
@options.as_json
def tune(study: str | None, where: options.Where, settings: dict[str, Any], as_json: bool) -> None:
    """Search the best hyperparameters of each optimizer.

    Example: optstudy tune --opt sgd --opt adam --trials 20 --epochs 5
    """
    from optstudy.cli.output import next_step, show_best
    from optstudy.cli.progress import watch

    made = where.open_study(study or "main", settings)
    chosen = settings.get("optimizers")
    watch(made.run("tuning", optimizers=chosen), quiet=where.quiet)
    show_best(made, chosen or made.specification.optimizers, as_json=as_json)
    next_step("optstudy train", where, study=study, optimizers=chosen or ())
