"""The errors that end a command; each message is one line, written for the user."""

import difflib
from collections import Counter
from collections.abc import Iterable


class OptstudyError(Exception):
    """The work failed. The command line prints only the message and exits with status 1."""

    details: str = ""  # traceback of the worker, if its task failed


class UsageError(OptstudyError):
    """The request is invalid. The command line exits with status 2."""


class UnwrittenError(OptstudyError):
    """A file could not be written: the disk is full, or the folder is read-only or does not exist."""


_LONGEST_LINE = 500  # characters


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type if it has none."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def one_line(error: BaseException) -> str:
    """Describe an exception in one line: its type, and the first line of its message.

    The message of an OptstudyError already is a line for the user, and stands alone.
    """
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  # of a class whose own __str__ raises
        message = ""
    first = next((" ".join(line.split()) for line in message.splitlines() if line.strip()), "")
    if isinstance(error, OptstudyError) and first:
        return first
    line = f"{type(error).__name__}: {first}"
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """Return the number of times that each reason is given, the most frequent first; "" is no reason."""
    return dict(Counter(filter(None, reasons)).most_common())


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` with the known name closest to ``name``, or an empty string."""
    candidate = closest(name, known)
    return f" (did you mean '{candidate}'?)" if candidate else ""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a misspelled one; None if none is close enough."""
    names = list(known)
    anagrams = [candidate for candidate in names if sorted(candidate) == sorted(name)]
    return next(iter(anagrams or difflib.get_close_matches(name, names, n=1, cutoff=0.75)), None)
