"""The command line as given, with another study name or without a flag."""

import shlex
import sys


def same_command(error: Exception) -> str | None:
    """Return the command with an unused study name if the error is a ChangedStudyError, else None."""
    name = getattr(error, "free_name", None)
    if name is None:
        return None
    words = [word for word in sys.argv[1:] if not word.startswith("--study=")]
    if "--study" in words:
        index = words.index("--study")
        del words[index : index + 2]
    return shlex.join(["optstudy", *words, "--study", name])


def command_without(flag: str) -> str:
    """Return the command without a flag."""
    return shlex.join(["optstudy", *(word for word in sys.argv[1:] if word != flag)])
