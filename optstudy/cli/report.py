"""`optstudy report`."""

import json
from pathlib import Path

import click

from optstudy.cli import options
from optstudy.cli.echo import echo
from optstudy.errors import UsageError
from optstudy.records.location import Location


@click.command()
@options.studies
@click.option(
    "--output",
    type=options.SystemPath(file_okay=False),
    default=Path("report"),
    show_default=True,
    metavar="DIR",
    help="A new or empty folder; nothing is overwritten.",
)
@options.reading
@options.as_json
def report(studies: tuple[str, ...], location: Location, output: Path, as_json: bool) -> None:
    """Write the report of a study: an HTML page, and the figures, tables and text for a paper.

    Example: optstudy report --study quick --output report
    """
    from optstudy.cli.output import next_step, update_moved_workspace
    from optstudy.report.write import write_report
    from optstudy.study.status import open_recorded

    try:
        not_empty = output.exists() and any(output.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read {output}: {error.strerror}; give another --output") from error
    if not_empty:
        raise UsageError(f"{output} is not empty; give another --output")
    update_moved_workspace(location)
    written = write_report(open_recorded(location), studies, output, workspace=location.workspace)
    for notice in written.notices:
        echo(f"note: {notice}", err=True)
    if as_json:
        content = {"page": str(written.page), "files": list(written.files), "run": written.run}
        click.echo(json.dumps(content, indent=2))
    else:
        echo(f"{written.page} (open it in a browser)")
    echo(f"{len(written.files)} files in {output}; logged as {written.run}", err=True)
    next_step("optstudy ui", location, study=written.studies[0])
