"""The command that was given, with something changed."""

import shlex
import sys


def same_command(error: Exception) -> str | None:
    """The same command with a study name that is free, where the error is that its study differs."""
    free = getattr(error, "free_name", None)
    if free is None:
        return None
    arguments = sys.argv[1:]
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--study":
            skip = True
        elif not argument.startswith("--study="):
            kept.append(argument)
    return shlex.join(["optstudy", *kept, "--study", free])


def command_without(flag: str) -> str:
    """The same command without a flag."""
    return shlex.join(["optstudy", *(word for word in sys.argv[1:] if word != flag)])
