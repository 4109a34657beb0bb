"""`optstudy ui`."""

import contextlib

import click

from optstudy.cli import options
from optstudy.records.location import Location


@click.command()
@click.option("--study", metavar="NAME", help="The study; by default the most recent one.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on localhost."
)
@options.reading
def ui(study: str | None, port: int, location: Location) -> None:
    """Open the MLflow interface, and print links to the study's pages.

    Example: optstudy ui --study quick
    """
    from optstudy.cli.output import show_links, update_moved_workspace
    from optstudy.tracking.server import links, run_server, server_uri

    uri = server_uri(location.tracking_uri)
    if uri is not None:
        show_links(links(uri, Location(location.workspace, uri), study))
        return
    update_moved_workspace(location)
    with contextlib.suppress(KeyboardInterrupt), run_server(location.workspace, port) as (address, server):
        show_links(links(address, Location(location.workspace), study))
        click.echo("Ctrl-C stops the server. next: open a link", err=True)
        server.wait()
