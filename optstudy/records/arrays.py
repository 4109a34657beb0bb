"""Arrays, and records made of them, as npz bytes without pickles."""

import io
import zlib
from collections.abc import Mapping
from typing import Any, Self, cast
from zipfile import BadZipFile

import numpy as np

from optstudy.records.forms import stored_fields

# What readers of zip files and arrays raise at bytes that are none; RuntimeError where one seems encrypted.
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
    """Return arrays, numbers or words by name as one npz file."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


def from_npz(data: bytes) -> dict[str, Any]:
    """Read what `to_npz` wrote: arrays, and plain values for what is no array.

    Raises:
        ValueError: If it is something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"not a file of arrays: {reason}") from error
    return {name: value if value.ndim else value.item() for name, value in found.items()}


class ArrayRecord:
    """A record that one npz file holds, an array a field; `to_bytes` and `from_bytes` are inverse."""

    def to_bytes(self) -> bytes:
        """Return the npz file; a field that no form names is left out where it has its default."""
        kind: type = type(self)
        fields = [(one, getattr(self, one.field)) for one in stored_fields(kind)]
        return to_npz({one.name: value for one, value in fields if one.always or value != one.default})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a file of this version or another: what it lacks takes its default, what it has more is passed over.

        Raises:
            ValueError: If these are no arrays, or not those of the record.
        """
        arrays, kind = from_npz(data), cast("type", cls)
        known = {one.field: arrays[one.name] for one in stored_fields(kind) if one.name in arrays}
        try:
            return cls(**known)
        except TypeError as error:  # it says which are missing
            raise ValueError(f"not the arrays of {cls.__name__}: {error}") from error
