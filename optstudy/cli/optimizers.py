"""`optstudy optimizers`."""

import json
from pathlib import Path

import click

from optstudy.cli import options


@click.command()
@click.argument("name", required=False)
@options.as_json
@options.workspace
def optimizers(name: str | None, as_json: bool, workspace: Path) -> None:
    """List the optimizers, or show what is searched of one.

    Example: optstudy optimizers adam
    """
    from optstudy.cli.showing import next_step, show_space, show_spaces
    from optstudy.optimizers import find_spaces, load_space

    if name is None:
        spaces = [load_space(known, workspace) for known in find_spaces(workspace)]
        if as_json:
            click.echo(json.dumps([{"name": s.name, "optimizer": s.optimizer, "source": str(s.source)} for s in spaces]))
        else:
            show_spaces(spaces)
            next_step(f"optstudy optimizers {spaces[0].name}", workspace=workspace)
        return
    space = load_space(name, workspace)
    show_space(space, as_json=as_json)
    if not as_json:
        next_step(f"optstudy tune --opt {name}", workspace=workspace)
