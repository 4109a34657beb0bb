"""Read and write arrays, and records made of arrays, as npz bytes without pickles."""

import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, Self, cast, get_args, get_origin, get_type_hints
from zipfile import ZipFile

import numpy as np

from optstudy.errors import first_line
from optstudy.records.forms import FormError, StoredField, from_form, stored_fields

MOST_BYTES = 2**30  # of all arrays of a file, unpacked; the largest that a study writes has a few million
_KINDS = {np.float64: "fiu", np.int64: "iu", np.bool_: "b", np.str_: "U"}  # of numpy's types, as stored
_NAMES = {np.float64: "numbers", np.int64: "whole numbers", np.bool_: "true and false", np.str_: "strings"}


def to_npz(arrays: Mapping[str, Any]) -> bytes:
    """Serialize arrays, numbers or strings by name as one npz file."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


def from_npz(data: bytes, where: str) -> dict[str, Any]:
    """Read an npz file; zero-dimensional arrays become plain values.

    Args:
        data: The file.
        where: Its name, for messages.

    Raises:
        FormError: If the data are not an npz file, or it holds objects, or more than `MOST_BYTES`.
    """
    try:
        arrays = {name.removesuffix(".npy"): _read_array(content) for name, content in _unzip(data).items()}
    except Exception as error:  # zipfile and numpy raise errors of many kinds on invalid bytes
        raise FormError(f"{where} is damaged (it is not a file of arrays: {first_line(error)})") from error
    return {name: array if array.ndim else array.item() for name, array in arrays.items()}


def _unzip(data: bytes) -> dict[str, bytes]:
    with ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MOST_BYTES:
            raise ValueError(f"its arrays have more than {MOST_BYTES:,} bytes")
        return {member.filename: archive.read(member) for member in members}


def _read_array(content: bytes) -> Any:
    """Read an npy file. numpy would allocate whatever memory its header claims."""
    file, formats = io.BytesIO(content), np.lib.format
    headers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    with warnings.catch_warnings(action="error"):
        version = formats.read_magic(file)
        if version not in headers:
            raise ValueError(f"it has version {version} of the format")
        shape, _, dtype = headers[version](file)
        found = len(content) - file.tell()
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        if math.prod(shape) * dtype.itemsize != found or max(shape, default=0) > len(content):
            raise ValueError(f"its header gives shape {shape}, but {found} bytes follow it")
        file.seek(0)
        return formats.read_array(file, allow_pickle=False)


class ArrayRecord:
    """A record stored as one npz file, with one array per field; `from_bytes` is the inverse of `to_bytes`.

    The annotation of an array has its dimensions: ``Annotated[NDArray[np.float64], "n", 2]``. A letter is a length that
    all arrays of the record share.
    """

    def to_bytes(self) -> bytes:
        """Return the npz file; a field that is not in `FORMS` is omitted if it has its default value."""
        kind: type = type(self)
        fields = [(stored, getattr(self, stored.field)) for stored in stored_fields(kind)]
        return to_npz(
            {stored.name: value for stored, value in fields if stored.always or value != stored.default}
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "the data") -> Self:
        """Read a file of this or another version: missing fields take their defaults, unknown arrays are ignored.

        Args:
            data: The file.
            where: Its name, for messages.

        Raises:
            FormError: If the data are not an npz file, lack a field without a default, or a field has another kind or
                shape.
        """
        return cls.from_arrays(from_npz(data, where), where)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], where: str) -> Self:
        """Build the record from the arrays of a file, as `from_npz` reads them; see `from_bytes`."""
        record = cast("type", cls)
        values = {stored.field: _read_field(stored, arrays, where) for stored in stored_fields(record)}
        _check_shapes(record, values, where)
        return cls(**values)


def _read_field(stored: StoredField, arrays: Mapping[str, Any], where: str) -> Any:
    if stored.name not in arrays:
        if stored.default is MISSING:
            raise FormError(f"{where}: {stored.name} is missing")
        return stored.default
    value = arrays[stored.name]
    if get_origin(stored.kind) is not np.ndarray:
        plain = value.tolist() if isinstance(value, np.ndarray) else value
        return from_form(stored.kind, plain, where, stored.name)
    kind = get_args(get_args(stored.kind)[1])[0]
    array = np.asarray(value)
    if array.dtype.kind not in _KINDS[kind] or not np.can_cast(array.dtype, kind):
        raise FormError(
            f"{where}: {stored.name} holds values of type {array.dtype}; it must hold {_NAMES[kind]}"
        )
    return array if kind is np.str_ else array.astype(kind, copy=False)


def _check_shapes(record: type, values: Mapping[str, Any], where: str) -> None:
    """Compare the shapes of arrays with their annotations; a plane that was not measured is empty."""
    lengths: dict[int | str, int] = {}
    hints = get_type_hints(record, include_extras=True)
    for stored in stored_fields(record):
        expected: tuple[int | str, ...] = getattr(hints[stored.field], "__metadata__", ())
        shape: tuple[int, ...] = getattr(values[stored.field], "shape", ())
        if stored.default is not MISSING and len(expected) > 1 and shape == (0,) * len(expected):
            continue
        if len(shape) == len(expected):
            named = (pair for pair in zip(expected, shape, strict=True) if isinstance(pair[0], str))
            lengths = dict(named) | lengths  # the first array with a length decides it
        known = tuple(lengths.get(size, size) for size in expected)
        if shape != known:
            raise FormError(
                f"{where}: {stored.name} has shape {shape}; it must be ({', '.join(map(str, known))})"
            )
