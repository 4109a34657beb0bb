"""`optstudy ui`."""

import contextlib

import click

from optstudy.cli import options
from optstudy.cli.echo import echo
from optstudy.records.location import Location


@click.command()
@click.option("--study", metavar="NAME", help="The study; by default the most recent one.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address of this machine to listen on; there is no password, so others can change the runs.",
)
@options.reading
def ui(study: str | None, port: int, host: str, location: Location) -> None:
    """Open the MLflow interface, and print links to the study's pages.

    Example: optstudy ui --study quick
    """
    from optstudy.cli.output import show_links, update_moved_workspace
    from optstudy.tracking.server import check_server, is_loopback, links, run_server, server_uri

    uri = server_uri(location)
    if uri is not None:
        show_links(links(uri, location, study))
        return
    update_moved_workspace(location)
    check_server(location, port, host)
    if not is_loopback(host):
        echo(
            f"note: there is no password: whoever reaches {host}:{port} can read and change all runs",
            err=True,
        )
    running = run_server(location.workspace, port, host)
    with contextlib.suppress(KeyboardInterrupt), running as (address, server):
        show_links(links(address, location, study))
        echo("Ctrl-C stops the server. next: open a link", err=True)
        server.wait()
