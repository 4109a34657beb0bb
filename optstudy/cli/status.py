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
    from optstudy.study.status import (
        earlier_run_notices,
        left_out_notices,
        open_recorded,
        other_server_notices,
        read_statuses,
    )

    update_moved_workspace(location)
    statuses = read_statuses(location)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(status) for status in statuses], indent=2))
    else:
        show_statuses(statuses)
    earlier = earlier_run_notices(open_recorded(location), dict.fromkeys(s.study for s in statuses))
    left_out = left_out_notices(location).values()
    for line in (*other_server_notices(location), *earlier, *left_out):
        echo(f"note: {line}", err=True)
    last = statuses[-1].study
    done = all(s.trials >= s.trials_asked and s.runs >= s.runs_asked for s in statuses if s.study == last)
    next_step("optstudy compare" if done else "optstudy study", location, study=last)
