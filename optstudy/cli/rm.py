"""`optstudy rm`."""

import json
import sys

import click

from optstudy.cli import options
from optstudy.cli.echo import echo
from optstudy.errors import OptstudyError, UsageError
from optstudy.records.location import Location
from optstudy.records.printable import printable


@click.command()
@click.argument("study")
@click.option("--best", is_flag=True, help="Also remove the selected configurations, tuning/best/STUDY.")
@click.option("--yes", is_flag=True, help="Do not ask; required where there is no terminal.")
@options.reading
@options.as_json
def rm(study: str, location: Location, best: bool, yes: bool, as_json: bool) -> None:
    """Remove a study: its runs and reports in MLflow, and its files in the workspace.

    What goes is listed first. A new study may have the same name afterwards.

    Example: optstudy rm quick
    """
    from optstudy.cli.output import (
        next_step,
        removal_as_json,
        removal_summary,
        show_removal,
        update_moved_workspace,
    )
    from optstudy.study.removal import removal, remove

    update_moved_workspace(location)
    with removal(study, location, best=best) as (content, tracking):
        summary = removal_summary(content)
        if not (yes or sys.stdin.isatty()):
            show_removal(content, err=True)
            raise UsageError(f"there is no terminal to ask whether to remove {summary}; give --yes")
        if not as_json:
            show_removal(content)
        if not yes and not click.confirm(printable(f"Remove {summary}?"), err=as_json):
            raise OptstudyError("nothing was removed")
        remove(content, tracking)
    if as_json:
        click.echo(json.dumps(removal_as_json(content), indent=2))
    if content.server and content.runs:
        echo("note: the server deletes the runs for good when its owner runs `mlflow gc`", err=True)
    next_step("optstudy study", location, study=study)
