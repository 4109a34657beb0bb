"""A curvature result as bytes: of today, of earlier and later versions, and damaged."""

from dataclasses import replace

import numpy as np
import pytest
from evidence import curvature_result

from optstudy.records.arrays import from_npz, to_npz
from optstudy.records.curvature import CurvatureResult, FinalCurvature

# The arrays of analysis.npz as the first studies wrote it.
FIRST = {
    "samples", "values", "residuals", "ratio", "verdict", "probability", "dtype", "products", "trace", "distances",
    "line", "line_model", "plane", "plane_model", "grid", "density", "spread", "change",
}  # fmt: skip

WHOLE = replace(
    curvature_result(0.8), loss=0.1, gradient_norm=0.2, converged=False, seed=3, run="tiny/sgd/seed-0"
)
PARTLY = CurvatureResult(
    samples=20,
    values=np.array([3.0]),
    residuals=np.array([1e-3]),
    verdict="unresolved",
    probability=0.01,
    dtype="float64",
    products=12,
)


def assert_same(found: CurvatureResult, wanted: CurvatureResult) -> None:
    for name, value in vars(wanted).items():
        np.testing.assert_array_equal(getattr(found, name), value)
        assert type(getattr(found, name)) is type(value)


@pytest.mark.parametrize("result", [WHOLE, PARTLY], ids=["whole", "eigenvalue alone"])
def test_bytes_give_back_the_same(result: CurvatureResult) -> None:
    assert_same(CurvatureResult.from_bytes(result.to_bytes()), result)
    assert from_npz(result.to_bytes()).keys() >= FIRST


def test_a_file_of_the_first_studies_is_read_and_what_it_lacks_takes_its_default() -> None:
    arrays = from_npz(WHOLE.to_bytes())

    found = CurvatureResult.from_bytes(to_npz({name: arrays[name] for name in FIRST}))

    assert np.isnan([found.loss, found.gradient_norm]).all()
    assert_same(found, replace(WHOLE, loss=np.nan, gradient_norm=np.nan, converged=True, seed=0, run=""))


def test_what_a_later_version_adds_is_passed_over() -> None:
    arrays = from_npz(WHOLE.to_bytes())

    assert_same(CurvatureResult.from_bytes(to_npz({**arrays, "third_derivative": np.zeros(3)})), WHOLE)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"PK\x03\x04", WHOLE.to_bytes()[:-40], WHOLE.to_bytes()[:200] + b"?" * 200 + WHOLE.to_bytes()[400:],
        to_npz({"samples": 3}), to_npz({"samples": {}}),
    ],
    ids=["nothing", "text", "start of a zip file", "cut short", "overwritten", "without eigenvalues", "pickle"],
)  # fmt: skip
def test_damaged_bytes_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(
        ValueError, match="^not (a file of arrays: |the arrays of CurvatureResult: )"
    ) as raised:
        CurvatureResult.from_bytes(data)

    assert "\n" not in str(raised.value)


def test_the_final_numbers_are_the_first_of_each() -> None:
    assert WHOLE.final == FinalCurvature(5.0, 3.0, 1.6, 1.59, 1.61, "separated", 9.0, WHOLE.loss_rise)
    assert WHOLE.loss_rise == pytest.approx(0.8)
