"""The two ways in which a command can end badly; each message is one line, written for the person who reads it."""

import difflib
from collections.abc import Iterable


class OptstudyError(Exception):
    """The work failed. The command line prints the message alone and exits with status 1."""


class UsageError(OptstudyError):
    """What was asked for cannot be done as asked. The command line exits with status 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known name nearest to a wrong one, or nothing."""
    near = closest(name, known)
    return f"; did you mean '{near}'?" if near else ""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that somebody meant who typed a wrong one; None if none is near enough."""
    names = list(known)
    swapped = [each for each in names if sorted(each) == sorted(name)]
    return next(iter(swapped or difflib.get_close_matches(name, names, n=1, cutoff=0.75)), None)
