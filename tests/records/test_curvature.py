"""A curvature result as bytes: of today, of earlier and later versions, and damaged."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import curvature_result

from optstudy.records.arrays import from_npz, to_npz
from optstudy.records.curvature import CurvatureResult, FinalCurvature
from optstudy.records.forms import FormError

# The arrays of analysis.npz as the first studies wrote it.
FIRST_ARRAYS = {
    "samples", "values", "residuals", "ratio", "verdict", "probability", "dtype", "products", "trace", "distances",
    "line", "line_model", "plane", "plane_model", "grid", "density", "spread", "change",
}  # fmt: skip

COMPLETE = replace(
    curvature_result(0.8), loss=0.1, gradient_norm=0.2, converged=False, seed=3, run="tiny/sgd/seed-0"
)
EIGENVALUE_ONLY = CurvatureResult(
    samples=20,
    values=np.array([3.0]),
    residuals=np.array([1e-3]),
    verdict="unresolved",
    probability=0.01,
    dtype="float64",
    products=12,
)


def assert_same(actual: CurvatureResult, expected: CurvatureResult) -> None:
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(actual, name), value)
        assert type(getattr(actual, name)) is type(value)


@pytest.mark.parametrize("result", [COMPLETE, EIGENVALUE_ONLY], ids=["complete", "eigenvalue only"])
def test_a_result_is_restored_from_its_bytes(result: CurvatureResult) -> None:
    assert_same(CurvatureResult.from_bytes(result.to_bytes()), result)
    assert from_npz(result.to_bytes(), "analysis.npz").keys() >= FIRST_ARRAYS


def test_a_file_of_the_first_studies_is_read_and_missing_arrays_take_their_defaults() -> None:
    arrays = from_npz(COMPLETE.to_bytes(), "analysis.npz")

    result = CurvatureResult.from_bytes(to_npz({name: arrays[name] for name in FIRST_ARRAYS}))

    assert np.isnan([result.loss, result.gradient_norm]).all()
    first = replace(COMPLETE, loss=np.nan, gradient_norm=np.nan, converged=True, seed=0, run="")
    assert_same(result, replace(first, sign="", format=0))


def test_arrays_of_later_versions_are_ignored() -> None:
    arrays = from_npz(COMPLETE.to_bytes(), "analysis.npz")

    assert_same(CurvatureResult.from_bytes(to_npz({**arrays, "third_derivative": np.zeros(3)})), COMPLETE)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"PK\x03\x04", COMPLETE.to_bytes()[:-40],
        COMPLETE.to_bytes()[:200] + b"?" * 200 + COMPLETE.to_bytes()[400:],
        to_npz({"samples": 3}), to_npz({"samples": {}}),
    ],
    ids=["nothing", "text", "start of a zip file", "cut short", "overwritten", "without eigenvalues", "pickle"],
)  # fmt: skip
def test_damaged_bytes_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(FormError, match="^analysis.npz(: values is missing$| is damaged )") as raised:
        CurvatureResult.from_bytes(data, "analysis.npz")

    assert "\n" not in str(raised.value)


def test_the_final_numbers_are_the_first_of_each() -> None:
    assert COMPLETE.final == FinalCurvature(
        5.0, 3.0, 1.6, 1.59, 1.61, "separated", 9.0, COMPLETE.loss_rise, "same"
    )
    assert COMPLETE.loss_rise == pytest.approx(0.8)


def test_a_verdict_of_the_first_studies_tells_the_sign_that_they_did_not_record() -> None:
    earlier = replace(COMPLETE, verdict="indefinite", sign="", format=0)

    shown = [replace(earlier, verdict=verdict).to_dict()["ratio"] for verdict in ("indefinite", "separated")]

    assert [ratio["verdict"] for ratio in shown] == ["indefinite", "separated"]
    assert [ratio["sign"] for ratio in shown] == ["opposite", None]
    assert COMPLETE.to_dict()["ratio"]["sign"] == "same"
