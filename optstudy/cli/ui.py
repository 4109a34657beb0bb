"""`optstudy ui`."""

from pathlib import Path

import click

from optstudy.cli import options


@click.command()
@options.study
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port on loopback.")
@options.workspace
@options.tracking
def ui(study: str | None, port: int, workspace: Path, tracking_uri: str | None) -> None:
    """Open the MLflow interface on the right store, and print where to look.

    Example: optstudy ui --study quick
    """
    from optstudy.serving import links, serve_store

    if tracking_uri is not None:
        for text, link in links(tracking_uri, tracking_uri, study, workspace):
            click.echo(f"{text}: {link}")
        return
    server, address = serve_store(workspace, port)
    try:
        for text, link in links(address, None, study, workspace):
            click.echo(f"{text}: {link}")
        click.echo("Ctrl-C ends it.", err=True)
        server.wait()
    finally:
        server.terminate()
        server.wait()
