"""Read and write arrays, and records made of arrays, as npz bytes without pickles."""

import io
import zlib
from collections.abc import Mapping
from typing import Any, Self, cast, get_origin
from zipfile import BadZipFile

import numpy as np

from optstudy.records.forms import stored_fields

# What numpy and zipfile raise for malformed files; RuntimeError for one that seems encrypted.
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
    """A record stored as one npz file, with one array per field; `to_bytes` and `from_bytes` are inverse."""

    def to_bytes(self) -> bytes:
        """Return the npz file; a field that is not in `FORMS` is omitted if it has its default value."""
        kind: type = type(self)
        fields = [(one, getattr(self, one.field)) for one in stored_fields(kind)]
        return to_npz({one.name: value for one, value in fields if one.always or value != one.default})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a file of this or another version: missing fields take their defaults, unknown arrays are ignored.

        Raises:
            ValueError: If the data are not an npz file, or lack a field without a default.
        """
        arrays, kind = from_npz(data), cast("type", cls)
        known = {one.field: arrays[one.name] for one in stored_fields(kind) if one.name in arrays}
        known |= {
            one.field: tuple(known[one.field].tolist())
            for one in stored_fields(kind)
            if get_origin(one.kind) is tuple and one.field in known
        }
        try:
            return cls(**known)
        except TypeError as error:  # names the missing fields
            raise ValueError(f"not the arrays of {cls.__name__}: {error}") from error
