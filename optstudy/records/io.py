"""Write JSON and binary files atomically, and detect damage to them by a checksum."""

import contextlib
import errno
import hashlib
import io
import itertools
import json
import math
import os
import sqlite3
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from optstudy.errors import OptstudyError, UnwrittenError, one_line
from optstudy.records.forms import FormError, from_form, parse_json

T = TypeVar("T")

CHECKSUM = "checksum"  # last key of a JSON file
_UNFINISHED = ".optstudy-"  # in the name of a file that is being written, before the number of the process
_COMMENT = b"sha256:"  # the comment of a zip file: this and 64 hexadecimal digits
# Begins the record at the end of a zip file, whose last two bytes are the comment's length.
_END = b"PK\x05\x06"
_END_SIZE = 22  # bytes of that record, without a comment


class ChecksumError(FormError):
    """A file does not agree with its checksum."""


class Sealed(NamedTuple, Generic[T]):
    """The content of a file, which agrees with the file's checksum unless the file has none."""

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
        UnwrittenError: If the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}{_UNFINISHED}{os.getpid()}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what `write_bytes` was writing below a folder when its process was killed; nobody may write there now."""
    for path in folder.rglob(f".*{_UNFINISHED}*"):
        if path.is_file():
            path.unlink()


def flush(path: Path) -> None:
    """Wait until a file or folder that others wrote is on disk.

    Raises:
        UnwrittenError: If the disk is full or fails.
    """
    with writing(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files to a folder that has none of them: all, or none if one cannot be written.

    Raises:
        UnwrittenError: If the folder cannot be written or the disk is full.
    """
    try:
        for name, data in files.items():
            write_bytes(folder / name, data)
    except UnwrittenError:
        remove_files(folder, files)
        raise


def remove_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Remove what `write_files` has written, so that the same command can write it again."""
    for name in files:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    for parent in {(folder / name).parent for name in files} - {folder}:
        with contextlib.suppress(OSError):
            parent.rmdir()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a temporary folder, and delete it at the end.

    Raises:
        UnwrittenError: If no folder for temporary files can be written.
    """
    with writing(Path(os.environ.get("TMPDIR", "/tmp")), "set TMPDIR to a folder with free space"):  # noqa: S108
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)


@contextlib.contextmanager
def writing(path: Path | str, remedy: str = "") -> Iterator[None]:
    """Describe errors of the system in one line while something is written.

    Args:
        path: What is written.
        remedy: What to do if the path is wrong, such as ``choose another --workspace``.

    Raises:
        UnwrittenError: Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, remedy)
        raise _unwritten(path, error.strerror or str(error), remedy) from error


def find_unwritten(error: BaseException, path: Path | str) -> UnwrittenError | None:
    """Return the one-line error if an exception was caused by a disk that is full or cannot be written.

    Args:
        error: The exception of a library.
        path: What was written, if the exception does not name a file.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnwrittenError):
            return cause
        if isinstance(cause, sqlite3.Error):
            code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the rest of the bits are details
            if code in _SQLITE:
                lost = code == sqlite3.SQLITE_CANTOPEN and not os.access(Path(path).parent, os.F_OK)
                return _unwritten(path, str(cause), _RESTORE_FOLDER if lost else _SQLITE[code])
        if isinstance(cause, OSError) and cause.errno in _REMEDIES:
            named = cause.filename2 or cause.filename  # a copy names its source first
            if named or cause.errno in _FULL:  # a connection may not be permitted either
                return _unwritten(os.fsdecode(named or path), cause.strerror or "", _REMEDIES[cause.errno])
        cause = cause.__cause__ or cause.__context__
    return None


_AGAIN = "and run the same command again"
_FREE_SPACE = f"free some space {_AGAIN}: nothing finished is lost"
_MAKE_WRITABLE = f"make it writable {_AGAIN}: nothing finished is lost"
_RESTORE_FOLDER = f"its folder is missing or closed to you; restore it {_AGAIN}"
_CHECK_DISK = f"check the disk {_AGAIN}"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REMEDIES = {
    **dict.fromkeys(_FULL, _FREE_SPACE),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _MAKE_WRITABLE),
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f) {_AGAIN}: nothing finished is lost",
    errno.EIO: _CHECK_DISK,
}
_SQLITE = {
    sqlite3.SQLITE_FULL: _FREE_SPACE,
    sqlite3.SQLITE_READONLY: _MAKE_WRITABLE,
    sqlite3.SQLITE_PERM: _MAKE_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _MAKE_WRITABLE,
    sqlite3.SQLITE_IOERR: _CHECK_DISK,
}


def _unwritten(path: Path | str, reason: str, remedy: str) -> UnwrittenError:
    return UnwrittenError(f"cannot write {path}: {reason}{f'; {remedy}' if remedy else ''}")


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
        FormError: If it is not a JSON object, or does not agree with its checksum.
        OptstudyError: If it cannot be read.
    """
    content = from_form(dict[str, Any], parse_json(read_bytes(path), str(path)), str(path))
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
        FormError: If it is not a zip file, or does not agree with its checksum.
        OptstudyError: If it cannot be read.
    """
    stored = read_bytes(path)
    if _has_no_comment(stored):
        _check_members(path, stored)
        return Sealed(stored, has_checksum=False)
    end = len(stored) - len(_COMMENT) - 64
    data = stored[: max(end - 2, 0)] + b"\0\0"
    comment = _COMMENT + hashlib.sha256(data).hexdigest().encode()
    if stored != data[:-2] + len(comment).to_bytes(2, "little") + comment:
        raise _changed(path)
    return Sealed(data, has_checksum=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to the first free of NAME.damaged-1, NAME.damaged-2, ...; return the new path.

    Raises:
        OptstudyError: If it cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    kept = next(name for name in names if not os.path.lexists(name))
    try:
        path.rename(kept)
    except OSError as error:
        raise OptstudyError(f"cannot rename {path} to {kept.name}: {error.strerror}") from error
    return kept


def read_bytes(path: Path) -> bytes:
    """Read a file that the study wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        FormError: If there is something else in its place, such as a folder.
        OptstudyError: If it cannot be read, which says nothing of its content.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device may never end
            raise FormError(f"cannot read {path}: it is not a regular file")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise FormError(f"cannot read {path}: {error.strerror}") from error
        raise OptstudyError(
            f"cannot read {path}: {error.strerror}; make it readable and run the same command again, or move it away"
        ) from error


def _check_members(path: Path, data: bytes) -> None:
    """Raise FormError unless the data are a whole zip file, whose members agree with the checksums of its format."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
    except Exception as error:  # damaged headers raise exceptions of many kinds
        raise FormError(f"{path} is damaged ({one_line(error)})") from error
    if damaged is not None:
        raise FormError(f"{path} is damaged (its part {damaged} does not agree with its checksum)")


def _has_no_comment(data: bytes) -> bool:
    return data[-_END_SIZE:].startswith(_END) and data.endswith(b"\0\0")


def _changed(path: Path) -> ChecksumError:
    return ChecksumError(
        f"{path} does not agree with its checksum: it was damaged or changed after it was written"
    )
