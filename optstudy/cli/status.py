"""`optstudy status`."""

import dataclasses
import json

import click

from optstudy.cli import options


@click.command()
@options.reading
@options.as_json
def status(where: options.Where, as_json: bool) -> None:
    """Show the progress of the workspace's studies.

    Example: optstudy status
    """
    from optstudy.cli.output import next_step, say_mended, show_standings
    from optstudy.study.status import logged_elsewhere, read_standings

    say_mended(where)
    standings = read_standings(where)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(standing) for standing in standings], indent=2))
    else:
        show_standings(standings)
    for line in logged_elsewhere(where):
        click.echo(f"note: {line}", err=True)
    last = standings[-1].study
    done = all(s.trials >= s.trials_asked and s.runs >= s.runs_asked for s in standings if s.study == last)
    next_step("optstudy compare" if done else "optstudy study", where, study=last)
