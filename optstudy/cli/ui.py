"""`optstudy ui`."""

import contextlib

import click

from optstudy.cli import options


@click.command()
@click.option("--study", metavar="NAME", help="The study; by default the most recent one.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on localhost."
)
@options.reading
def ui(study: str | None, port: int, where: options.Where) -> None:
    """Open the MLflow interface on the right store, and print where to look.

    Example: optstudy ui --study quick
    """
    from optstudy.cli.output import show_links, update_moved_workspace
    from optstudy.records.location import Location
    from optstudy.tracking.server import links, served, server_uri

    uri = server_uri(where.tracking_uri)
    if uri is not None:
        show_links(links(uri, Location(where.workspace, uri), study))
        return
    update_moved_workspace(where)
    with contextlib.suppress(KeyboardInterrupt), served(where.workspace, port) as (address, server):
        show_links(links(address, Location(where.workspace), study))
        click.echo("Ctrl-C stops the server. next: open a link", err=True)
        server.wait()
