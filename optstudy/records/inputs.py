"""Read files that a user gives; each error is one line that names the file."""

import stat
import tomllib
from pathlib import Path
from typing import Any

from optstudy.errors import UsageError
from optstudy.records.forms import check_limits

MOST_BYTES = 2**30  # of a file that is read at once
_MOST_TOML, _MOST_DOTS = 10**6, 1000  # tomllib's time is quadratic in the dots of a key
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def check_file(path: Path, remedy: str) -> None:
    """Check that a path is a regular file, since reading a pipe or a device may never end.

    Args:
        path: The file.
        remedy: What to do if it is not, for the message.

    Raises:
        UsageError: If it is not.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise unreadable(path, error, remedy) from error
    for is_kind, kind in _KINDS.items():
        if is_kind(found.st_mode):
            raise UsageError(f"{path}: is {kind}, not a file; {remedy}")
    if found.st_size > MOST_BYTES:
        raise UsageError(f"{path}: has {found.st_size:,} bytes, more than {MOST_BYTES:,}; {remedy}")


def read_input(path: Path, remedy: str) -> bytes:
    """Read a file.

    Args:
        path: The file.
        remedy: What to do if it cannot be read, for the message.

    Raises:
        UsageError: If it cannot be read.
    """
    check_file(path, remedy)
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error, remedy) from error


def read_text(path: Path, remedy: str) -> str:
    """Read a text file in UTF-8, with or without a byte order mark; see `read_input`."""
    try:
        return read_input(path, remedy).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8; {remedy}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file whose whole numbers have at most 64 bits; its other values are the caller's to check.

    Raises:
        UsageError: If it cannot be read, or is not TOML.
    """
    text = read_text(path, "give a TOML file that you may read")
    items = (item for line in text.splitlines() for item in line.split(","))
    if len(text) > _MOST_TOML or any(item.count(".") > _MOST_DOTS for item in items):
        limits = f"{_MOST_TOML:,} characters, or {_MOST_DOTS:,} dots in a line without a comma"
        raise UsageError(f"{path}: not a TOML file of a study: it has more than {limits}")
    try:
        content = _parse_toml(text)
        check_limits(content)
    except ValueError as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: not a TOML file: it is nested too deeply") from error
    return content


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python's, of a number with thousands of digits
        raise ValueError("a whole number has more than 64 bits") from None


def unreadable(path: Path, error: OSError | ValueError, remedy: str) -> UsageError:
    """Describe in one line why a file cannot be read."""
    return UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {remedy}")
