"""Write JSON and binary files atomically, and detect damage to them by a checksum."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from optstudy.errors import OptstudyError
from optstudy.records.forms import FormError, from_form, parse_json

T = TypeVar("T")

CHECKSUM = "checksum"  # last key of a JSON file
_COMMENT = b"sha256:"  # the comment of a zip file: this and 64 hexadecimal digits
_END, _END_SIZE = (
    b"PK\x05\x06",
    22,
)  # the record at the end of a zip file; its last two bytes are the comment's length


class Sealed(NamedTuple, Generic[T]):
    """The content of a file that agrees with its checksum, if it has one."""

    content: T
    has_checksum: bool  # false for a file that was written before there were checksums


def replace_nonfinite(value: Any) -> Any:
    """Replace every number that is not finite by None, since JSON has no nan or infinity."""
    if isinstance(value, dict):
        return {name: replace_nonfinite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: after a crash it is either complete or unchanged.

    Raises:
        OptstudyError: If the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OptstudyError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def checksum(content: Any) -> str:
    """Return the SHA-256 of a JSON value; whitespace and the order of names do not count."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with its checksum as last key.

    The checksum detects damage and edits by mistake; it is no signature.

    Raises:
        OptstudyError: If the file cannot be written.
    """
    write_json(path, {**content, CHECKSUM: checksum(content)})


def read_sealed(path: Path) -> Sealed[dict[str, Any]]:
    """Read a JSON object that `write_sealed` wrote; its content is without the checksum.

    Raises:
        FileNotFoundError: If there is no such file.
        FormError: If it cannot be read, is not a JSON object, or does not agree with its checksum.
    """
    content = from_form(dict[str, Any], parse_json(_read(path), str(path)), str(path))
    if CHECKSUM not in content:
        return Sealed(content, has_checksum=False)
    try:
        agrees = content.pop(CHECKSUM) == checksum(content)
    except RecursionError as error:
        raise FormError(f"{path} is damaged (it is nested too deeply)") from error
    if not agrees:
        raise _changed(path)
    return Sealed(content, has_checksum=True)


def write_sealed_zip(path: Path, data: bytes) -> None:
    """Write a zip file, such as those of torch and npz files, atomically, with its checksum as comment.

    Other programs open the file as before.

    Raises:
        OptstudyError: If the file cannot be written.
        ValueError: If the data are not a zip file without a comment.
    """
    if not _has_no_comment(data):
        raise ValueError("data must be a zip file without a comment")
    comment = _COMMENT + hashlib.sha256(data).hexdigest().encode()
    write_bytes(path, data[:-2] + len(comment).to_bytes(2, "little") + comment)


def read_sealed_zip(path: Path) -> Sealed[bytes]:
    """Read a zip file that `write_sealed_zip` wrote; its content is as it was given.

    Raises:
        FileNotFoundError: If there is no such file.
        FormError: If it cannot be read, is not a zip file, or does not agree with its checksum.
    """
    stored = _read(path)
    if _has_no_comment(stored):
        return Sealed(stored, has_checksum=False)
    end = len(stored) - len(_COMMENT) - 64
    data = stored[: max(end - 2, 0)] + b"\0\0"
    comment = _COMMENT + hashlib.sha256(data).hexdigest().encode()
    if stored != data[:-2] + len(comment).to_bytes(2, "little") + comment:
        raise _changed(path)
    return Sealed(data, has_checksum=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FormError(f"cannot read {path}: {error.strerror}") from error


def _has_no_comment(data: bytes) -> bool:
    return data[-_END_SIZE:].startswith(_END) and data.endswith(b"\0\0")


def _changed(path: Path) -> FormError:
    return FormError(
        f"{path} does not agree with its checksum: it was damaged or changed after it was written"
    )
