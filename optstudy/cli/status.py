"""`optstudy status`."""

import dataclasses
import json

import click

from optstudy.cli import options
from optstudy.cli.echo import echo
from optstudy.records.location import Location


@click.command()
@options.reading
@options.as_json
def status(location: Location, as_json: bool) -> None:
    """Show the progress of the workspace's studies.

    Example: optstudy status
    """
    from optstudy.cli.output import next_step, show_statuses, update_moved_workspace
    from optstudy.study.next_step import next_step_of
    from optstudy.study.status import (
        earlier_run_notices,
        left_out_notices,
        open_recorded,
        other_server_notices,
        read_statuses,
        unlogged_notices,
    )

    update_moved_workspace(location)
    statuses = read_statuses(location)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(status) for status in statuses], indent=2))
    else:
        show_statuses(statuses)
    earlier = earlier_run_notices(open_recorded(location), dict.fromkeys(s.study for s in statuses))
    left_out = left_out_notices(location).values()
    for line in (*other_server_notices(location), *unlogged_notices(location), *earlier, *left_out):
        echo(f"note: {line}", err=True)
    step = next_step_of(location, [status for status in statuses if status.study == statuses[-1].study])
    if step.notice:
        echo(f"note: {step.notice}", err=True)
    if step.command:
        next_step(step.command, step.location, study=step.study, optimizers=step.optimizers)
