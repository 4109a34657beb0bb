"""Print lines."""

import click

from optstudy.records.printable import printable


def echo(line: str, *, err: bool = False) -> None:
    """Print one line on standard output, or on standard error; control characters are shown escaped."""
    click.echo(printable(line), err=err)
