"""The command line: parses options, calls the library and prints results; no other package prints."""

from optstudy.cli.main import main

__all__ = ["main"]
