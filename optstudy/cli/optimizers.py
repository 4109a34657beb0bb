"""`optstudy optimizers`."""

import json

import click

from optstudy.cli import options
from optstudy.cli.echo import echo
from optstudy.errors import OptstudyError, UsageError
from optstudy.records.location import Location


@click.command()
@click.argument("name", required=False)
@options.reading
@options.as_json
def optimizers(name: str | None, location: Location, as_json: bool) -> None:
    """List the optimizers, or show the search space of one.

    Example: optstudy optimizers adam
    """
    from optstudy.cli.output import next_step, show_space, show_spaces
    from optstudy.optimizers import find_spaces, load_space

    if name is not None:
        show_space(load_space(name, location.workspace), as_json=as_json)
        next_step("optstudy tune", location, optimizers=(name,))
        return
    spaces, problems = [], []
    for known in find_spaces(location.workspace):
        try:
            spaces.append(load_space(known, location.workspace))
        except UsageError as error:
            problems.append(str(error))
    if as_json:
        listed = [{"name": s.name, "optimizer": s.optimizer, "source": str(s.source)} for s in spaces]
        click.echo(json.dumps(listed, indent=2))
    else:
        show_spaces(spaces)
    for problem in problems[:-1]:
        echo(f"optstudy: {problem}", err=True)
    if problems:
        raise OptstudyError(problems[-1])
    next_step(f"optstudy optimizers {spaces[0].name}", location)
