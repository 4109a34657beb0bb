"""The errors that end a command; each message is one line, written for the user."""

import difflib
from collections.abc import Iterable


class OptstudyError(Exception):
    """The work failed. The command line prints only the message and exits with status 1."""

    details: str = ""  # traceback of the worker, if its task failed


class UsageError(OptstudyError):
    """The request is invalid. The command line exits with status 2."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` with the known name closest to ``name``, or an empty string."""
    candidate = closest(name, known)
    return f" (did you mean '{candidate}'?)" if candidate else ""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a misspelled one; None if none is close enough."""
    names = list(known)
    anagrams = [candidate for candidate in names if sorted(candidate) == sorted(name)]
    return next(iter(anagrams or difflib.get_close_matches(name, names, n=1, cutoff=0.75)), None)
