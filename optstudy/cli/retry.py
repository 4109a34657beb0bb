"""Variants of the given command line: with another study name, or without a flag."""

import shlex
import sys


def command_with_free_name(error: Exception) -> str | None:
    """Return the given command with an unused study name after a ChangedStudyError, else None."""
    name = getattr(error, "free_name", None)
    if name is None:
        return None
    words = [word for word in sys.argv[1:] if not word.startswith("--study=")]
    if "--study" in words:
        index = words.index("--study")
        del words[index : index + 2]
    return shlex.join(["optstudy", *words, "--study", name])


def command_without(flag: str) -> str:
    """Return the given command without a flag."""
    return shlex.join(["optstudy", *(word for word in sys.argv[1:] if word != flag)])
