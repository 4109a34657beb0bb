"""`optstudy compare`."""

import click

from optstudy.cli import options


@click.command()
@click.option(
    "--study",
    "studies",
    multiple=True,
    metavar="NAME",
    help="A study, by default the one written last; twice to see two side by side.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "markdown", "latex", "csv")),
    default="table",
    show_default=True,
    help="How to print it.",
)
@options.reading
@options.as_json
def compare(studies: tuple[str, ...], form: str, where: options.Where, as_json: bool) -> None:
    """Print the comparison of a study's final runs, read from MLflow alone.

    Example: optstudy compare --study quick --format markdown
    """
    from optstudy.cli.showing import next_step, say_mended, show_comparison
    from optstudy.reading import read_comparison

    say_mended(where)
    comparison, names = read_comparison(studies, where.workspace, where.tracking_uri)
    show_comparison(comparison, as_json=as_json, form=form)
    next_step("optstudy ui", where, study=names[-1])
