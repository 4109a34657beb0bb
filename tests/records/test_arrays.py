"""Records of arrays are read only if kinds and shapes are right, and cost no more memory than they may."""

import io
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from evidence import curvature_result, run_evidence

from optstudy.records import arrays
from optstudy.records.arrays import from_npz, to_npz
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.forms import FormError
from optstudy.records.run import Predictions

ONE = run_evidence()
FILES = {
    record: from_npz(value.to_bytes(), "a file")
    for record, value in (
        (CurvatureResult, curvature_result(0.8)),
        (EigenTrace, ONE.trace),
        (Predictions, ONE.predictions),
    )
    if value is not None
}


def npy(header: str, values: bytes = b"") -> bytes:
    """Return an npz file with one array, whatever its header says."""
    text = header.encode() + b"\n"
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + values)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("record", "changes", "line"),
    [
        (Predictions, {"predicted": np.zeros(3, int)}, "predicted has shape (3,); it must be (2000)"),
        (Predictions, {"labels": 3}, "labels has shape (); it must be (n)"),
        (Predictions, {"labels": ["a", "b"]}, "labels holds values of type <U1; it must hold whole numbers"),
        (Predictions, {"labels": np.zeros(2)}, "labels holds values of type float64; it must hold whole numbers"),
        (Predictions, {"labels": [True]}, "labels holds values of type bool; it must hold whole numbers"),
        (Predictions, {"predicted": np.zeros(2000, np.uint64)},
         "predicted holds values of type uint64; it must hold whole numbers"),
        (Predictions, {"classes": [1, 2]}, "classes[0] is 1; it must be a string"),
        (Predictions, {"classes": [["a"]]}, "classes[0] is ['a']; it must be a string"),
        (Predictions, {"classes": "a"}, "classes is 'a'; it must be a list"),
        (EigenTrace, {"values": np.zeros((100, 3))}, "values has shape (100, 3); it must be (100, 2)"),
        (EigenTrace, {"values": np.zeros(100)}, "values has shape (100,); it must be (100, 2)"),
        (EigenTrace, {"verified": np.zeros(100)}, "verified holds values of type float64; it must hold true and false"),
        (EigenTrace, {"verdict": np.zeros(100)}, "verdict holds values of type float64; it must hold strings"),
        (EigenTrace, {"low": np.zeros(100, "M8[s]")}, "low holds values of type datetime64[s]; it must hold numbers"),
        (EigenTrace, {"low": np.zeros(100, complex)}, "low holds values of type complex128; it must hold numbers"),
        (CurvatureResult, {"samples": 1.5}, "samples is 1.5; it must be a whole number"),
        (CurvatureResult, {"samples": [1]}, "samples is [1]; it must be a whole number"),
        (CurvatureResult, {"converged": 1}, "converged is 1; it must be true or false"),
        (CurvatureResult, {"verdict": np.nan}, "verdict is nan; it must be a string"),
        (CurvatureResult, {"ratio": [1.0, 2.0]}, "ratio has shape (2,); it must be (3)"),
        (CurvatureResult, {"line": np.zeros(40)}, "line has shape (40,); it must be (41)"),
        (CurvatureResult, {"plane": np.zeros((41, 40))}, "plane has shape (41, 40); it must be (41, 41)"),
    ],
)  # fmt: skip
def test_an_array_of_another_kind_or_shape_is_one_line(
    record: type[CurvatureResult], changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(FormError) as raised:
        record.from_bytes(to_npz({**FILES[record], **changes}), "a.npz of run 1a2b")

    assert str(raised.value) == f"a.npz of run 1a2b: {line}"


def test_arrays_of_smaller_types_are_read_as_the_records_own() -> None:
    small = {"labels": np.zeros(3, np.uint8), "predicted": np.zeros(3, ">i4")}

    read = Predictions.from_bytes(to_npz(small), "predictions.npz")

    assert [str(read.labels.dtype), str(read.predicted.dtype)] == ["int64", "int64"]


@pytest.mark.parametrize(
    "data",
    [
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", bytes(80)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 0)}"),
        npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1L,)}", bytes(8)),
        npy("(" * 3000),
        npy("__import__('evil')"),
    ],
    ids=["huge", "huge and empty", "huge without bytes", "objects", "negative", "Python 2", "nested", "code"],
)
def test_a_header_that_numpy_would_believe_is_refused(data: bytes) -> None:
    with pytest.raises(FormError, match=r"^a.npz is damaged \(it is not a file of arrays: ") as raised:
        from_npz(data, "a.npz")

    assert "\n" not in str(raised.value)


def test_a_file_that_would_unpack_to_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_BYTES", 10_000)

    with pytest.raises(FormError, match="its arrays have more than 10,000 bytes"):
        from_npz(to_npz({"a": np.zeros(1000), "b": np.zeros(1000)}), "a.npz")
