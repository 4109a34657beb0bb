"""The command line: parse, call, show. The only place that prints."""

from optstudy.cli.main import main

__all__ = ["main"]
