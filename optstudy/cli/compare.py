"""`optstudy compare`."""

from pathlib import Path

import click

from optstudy.cli import options


@click.command()
@click.option("--study", "studies", multiple=True, metavar="NAME", help="A study; the one written last by default. "
              "Give it twice to see both.")
@click.option("--format", "form", type=click.Choice(("table", "markdown", "latex", "csv")), default="table",
              show_default=True, help="How to print it.")
@options.as_json
@options.workspace
@options.tracking
def compare(
    studies: tuple[str, ...], form: str, as_json: bool, workspace: Path, tracking_uri: str | None
) -> None:
    """Print the comparison of a study's final runs, read from MLflow alone.

    Example: optstudy compare --study quick --format markdown
    """
    from optstudy.cli.showing import next_step, show_comparison
    from optstudy.reading import read_comparison

    comparison, names = read_comparison(studies, workspace, tracking_uri)
    show_comparison(comparison, as_json=as_json, form=form)
    next_step("optstudy ui", workspace=workspace, tracking_uri=tracking_uri, study=names[-1])
