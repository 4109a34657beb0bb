"""Variants of the given command line: with another study name, without a flag, or of another command."""

import shlex
import sys


def command_with_free_name(error: Exception) -> str | None:
    """Return the given command with an unused study name after a ChangedStudyError, else None."""
    name = getattr(error, "free_name", None)
    if name is None:
        return None
    words = sys.argv[1:]
    for option in ("--study", "--accept-source"):  # a study that has not begun has nothing to accept
        words = [word for word in words if not word.startswith(f"{option}=")]
        while option in words:
            index = words.index(option)
            del words[index : index + 2]
    return shlex.join(["optstudy", *words, "--study", name])


def command_without(flag: str) -> str:
    """Return the given command without a flag."""
    return shlex.join(["optstudy", *(word for word in sys.argv[1:] if word != flag)])


def command_as(name: str) -> str:
    """Return the given command with another command's name, without ``--json``."""
    return shlex.join(["optstudy", name, *(word for word in sys.argv[2:] if word != "--json")])
