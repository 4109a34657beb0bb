"""Read and write arrays, and records made of arrays, as npz bytes without pickles."""

import io
import zlib
from collections.abc import Mapping
from typing import Any, Self, cast, get_origin
from zipfile import BadZipFile

import numpy as np

from optstudy.records.forms import stored_fields

# Raised by numpy and zipfile for malformed files; RuntimeError if the file seems encrypted.
_DAMAGED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    RuntimeError,
    BadZipFile,
    zlib.error,
)


def to_npz(arrays: Mapping[str, Any]) -> bytes:
    """Serialize arrays, numbers or strings by name as one npz file."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


def from_npz(data: bytes) -> dict[str, Any]:
    """Read an npz file; zero-dimensional arrays become plain values.

    Raises:
        ValueError: If the data are not an npz file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays.files}
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"not a file of arrays: {reason}") from error
    return {name: value if value.ndim else value.item() for name, value in values.items()}


class ArrayRecord:
    """A record stored as one npz file, with one array per field; `from_bytes` is the inverse of `to_bytes`."""

    def to_bytes(self) -> bytes:
        """Return the npz file; a field that is not in `FORMS` is omitted if it has its default value."""
        kind: type = type(self)
        fields = [(stored, getattr(self, stored.field)) for stored in stored_fields(kind)]
        return to_npz(
            {stored.name: value for stored, value in fields if stored.always or value != stored.default}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a file of this or another version: missing fields take their defaults, unknown arrays are ignored.

        Raises:
            ValueError: If the data are not an npz file, or lack a field without a default.
        """
        arrays, kind = from_npz(data), cast("type", cls)
        values = {
            stored.field: arrays[stored.name] for stored in stored_fields(kind) if stored.name in arrays
        }
        values |= {
            stored.field: tuple(values[stored.field].tolist())
            for stored in stored_fields(kind)
            if get_origin(stored.kind) is tuple and stored.field in values
        }
        try:
            return cls(**values)
        except TypeError as error:  # its message names the missing fields
            raise ValueError(f"not the arrays of {cls.__name__}: {error}") from error
