"""`optstudy compare`."""

from pathlib import Path

import click

from optstudy.cli import options
from optstudy.cli.echo import echo
from optstudy.errors import UsageError
from optstudy.records.location import Location


@click.command()
@options.studies
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "markdown", "latex", "csv")),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--opt",
    "optimizers",
    multiple=True,
    metavar="NAME",
    help="Show this optimizer only; may be repeated. By default all.",
)
@click.option(
    "--metric",
    type=click.Choice(("accuracy", "cost", "geometry", "classes", "networks", "tuning")),
    default="accuracy",
    show_default=True,
    help="Contents of the table; --json prints everything.",
)
@click.option(
    "--output",
    type=options.SystemPath(dir_okay=False),
    metavar="FILE",
    help="Write to this file, which must not exist.",
)
@options.reading
@options.as_json
def compare(
    studies: tuple[str, ...],
    optimizers: tuple[str, ...],
    location: Location,
    output: Path | None,
    as_json: bool,
    **how: str,
) -> None:
    """Print the comparison of a study's final runs, read from MLflow alone.

    Example: optstudy compare --study quick --format markdown
    """
    from optstudy.cli.output import next_step, show_comparison, update_moved_workspace, write_comparison
    from optstudy.comparison.read import check_optimizers, read_studies
    from optstudy.comparison.table import compare as comparison_of
    from optstudy.study.status import open_recorded

    if output is not None and output.exists():
        raise UsageError(f"{output} already exists; give another --output")
    update_moved_workspace(location)
    evidence = read_studies(open_recorded(location), studies, workspace=location.workspace)
    for notice in evidence.notices:
        echo(f"note: {notice}", err=True)
    check_optimizers(evidence, optimizers)
    comparison = comparison_of(evidence)
    if optimizers:
        comparison = comparison.of_optimizers(optimizers)
    if output is None:
        show_comparison(comparison, as_json=as_json, **how)
    else:
        write_comparison(comparison, output, as_json=as_json, **how)
    next_step("optstudy ui", location, study=evidence.studies[-1])
