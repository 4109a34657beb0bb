"""The command group, and the exit statuses of errors."""

import contextlib
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from optstudy import __version__
from optstudy.cli.echo import echo
from optstudy.cli.retry import command_with_free_name
from optstudy.errors import OptstudyError, UsageError, suggestion

# Each command is imported from the module of the same name when it runs or shows its help.
COMMANDS = (
    "rehearse",
    "study",
    "tune",
    "train",
    "compare",
    "report",
    "curvature",
    "reproduce",
    "status",
    "rm",
    "ui",
    "optimizers",
)


class _Commands(click.Group):
    """Commands in the order of use, each in its own file."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            raise UsageError(f"no command {cmd_name!r}{suggestion(cmd_name, COMMANDS)}; see optstudy --help")
        command = getattr(importlib.import_module(f"optstudy.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="optstudy")
def group() -> None:
    """Compare optimizers under the same budget: tune, retrain over seeds, compare the results.

    Example: optstudy study --preset smoke
    """


def main() -> None:
    """Run the command line; exit with 0 on success, 1 if the work failed, 2 on wrong usage."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        group.main(prog_name="optstudy", standalone_mode=False)
    except click.ClickException as error:
        if sys.argv[1:]:
            echo(f"optstudy: {' '.join(error.format_message().split())}", err=True)
        else:
            error.show()  # the help
        sys.exit(error.exit_code)
    except OptstudyError as error:
        # One line, or one for each task that failed for its own reason.
        for line in f"optstudy: {error}".splitlines():
            echo(line, err=True)
        if command := command_with_free_name(error):
            echo(command, err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except (KeyboardInterrupt, click.Abort):
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, signal.SIG_IGN)  # another would end Python's own exit in a traceback
        echo("optstudy: interrupted; run the same command again to resume", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output has gone
        sys.exit(1)
    except OSError as error:
        _end_after(error)


def _end_after(error: OSError) -> NoReturn:
    """End a command after an error of a disk or a file system, such as that its output cannot be written."""
    from optstudy.records.io import find_unwritten

    if unwritten := find_unwritten(error, "the output"):
        echo(f"optstudy: {unwritten}", err=True)
        with contextlib.suppress(OSError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # else Python would try it again, and complain
    else:
        path = f"{error.filename}: " if error.filename else ""
        echo(
            f"optstudy: {path}{error.strerror or error}; correct that, and run the same command again",
            err=True,
        )
    sys.exit(1)


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
