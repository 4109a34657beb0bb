"""What trackers saw along a run, as arrays and as metrics."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cases
import numpy as np
import oracles
import pytest
from torch import Tensor
from torch.nn import functional

from optstudy.errors import OptstudyError
from optstudy.records.arrays import from_npz, to_npz
from optstudy.records.eigen_trace import EigenTrace, check_observations, eigen_trace
from optstudy.records.metrics import step_metrics
from optstudy.records.plan import Trace
from optstudy.records.run import Observation
from optstudy.training import StepContext, advance, run_rung, sample_images, start
from optstudy.workloads.datasets import load
from optstudy.workloads.models import build_model
from optstudy.workloads.splits import load_split

PLAN = cases.plan(trace=Trace(samples=20, last=5, every=2))  # of 8 steps: 3, 5, 7


@dataclass(frozen=True)
class WeightRecorder:
    """A probe that keeps the weights before each step."""

    weights: dict[int, dict[str, Tensor]]
    name: str = "weights"

    def is_due(self, context: StepContext) -> bool:
        return True

    def observe(
        self, context: StepContext, state: dict[str, Any] | None
    ) -> tuple[dict[str, Any], Mapping[str, float | str]]:
        self.weights[context.step] = {
            name: value.clone() for name, value in context.model.state_dict().items()
        }
        return state or {}, {}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[EigenTrace, list[np.ndarray]]:
    """The trace of a run, and the dense Hessian at each traced step, from a rerun."""
    weights: dict[int, dict[str, Tensor]] = {}
    with cases.project(tmp_path_factory.mktemp("user")):
        rung, _ = run_rung(PLAN, None, 0, 2)
        advance(start(PLAN), PLAN, 2, [WeightRecorder(weights)])
        batch = sample_images(load_split(PLAN.dataset, PLAN.split)[0], 20, 0, "cpu")
        model = build_model(PLAN.model, load(PLAN.dataset)).eval()
    trace = eigen_trace(rung.observations)
    assert trace is not None
    assert isinstance(batch, tuple)
    hessians = []
    for step in trace.step:
        model.load_state_dict(weights[int(step)])
        hessians.append(oracles.dense_hessian(model, functional.cross_entropy, batch).numpy())
    return trace, hessians


def test_the_last_steps_are_traced_at_their_interval(traced: tuple[EigenTrace, list[np.ndarray]]) -> None:
    trace, _ = traced

    assert trace.step.tolist() == [3, 5, 7]
    assert trace.verified[[0, -1]].all()  # others where a value may have been lost
    assert (np.isnan(trace.probability) == ~trace.verified).all()
    assert not len(trace.preconditioned)


def test_each_step_is_the_dense_hessians_at_the_weights_before_it(
    traced: tuple[EigenTrace, list[np.ndarray]],
) -> None:
    trace, hessians = traced

    for row, hessian in enumerate(hessians):
        values = sorted(np.linalg.eigvalsh(hessian), key=abs, reverse=True)
        np.testing.assert_allclose(trace.values[row], values[:2], rtol=2e-3)
        assert trace.low[row] <= abs(values[0] / values[1]) <= trace.high[row]
        assert trace.ratio[row] == pytest.approx(abs(trace.values[row, 0] / trace.values[row, 1]))
        for value, residual in zip(trace.values[row], trace.residuals[row], strict=True):
            assert min(abs(value - other) for other in values) <= residual + 1e-6


def test_the_file_is_read_without_pickles(traced: tuple[EigenTrace, list[np.ndarray]]) -> None:
    trace, _ = traced

    with np.load(io.BytesIO(trace.to_bytes()), allow_pickle=False) as arrays:
        documented = {
            "step",
            "values",
            "residuals",
            "low",
            "high",
            "verdict",
            "sign",
            "verified",
            "angle",
            "gradient_share",
        }
        assert documented <= set(arrays.files)
        np.testing.assert_array_equal(arrays["values"], trace.values)


def observed(step: int, probe: str = "eigen", **changes: Any) -> Observation:
    values: dict[str, float | str | None] = {
        "lambda_1": 4.0, "lambda_2": 2.0, "residual_1": 0.1, "residual_2": 0.2, "ratio": 2.0, "ratio_low": 1.9,
        "ratio_high": 2.1, "verdict": "separated", "sign": "same", "verified": 0.0, "probability": None, "angle": 0.1,
        "gradient_share": 0.5, "loss": 1.0, "products": 3.0,
    }  # fmt: skip
    return Observation(probe, step, {**values, **changes})


NO_EIGENVALUES = Observation("eigen", 6, {"loss": None})


def test_a_step_with_a_nonfinite_loss_is_omitted() -> None:
    trace = eigen_trace([observed(5), NO_EIGENVALUES])

    assert trace is not None
    assert trace.step.tolist() == [5]
    assert step_metrics([NO_EIGENVALUES]) == []


@pytest.mark.parametrize("observations", [[], [NO_EIGENVALUES], [observed(5, probe="other")]])
def test_a_run_without_observations_has_no_trace(observations: list[Observation]) -> None:
    assert eigen_trace(observations) is None


def test_numbers_that_were_not_finite_are_nan_in_arrays_and_no_metrics() -> None:
    observation = observed(5, ratio=None, ratio_high=None)

    trace = eigen_trace([observation])

    assert trace is not None
    assert math.isnan(trace.ratio[0])
    assert step_metrics([observation]) == [
        ("eigen/lambda_1", 4.0, 5),
        ("eigen/lambda_2", 2.0, 5),
        ("eigen/residual", 0.1, 5),
    ]


def test_the_preconditioned_hessian_has_arrays_of_its_own() -> None:
    observations = [observed(5), observed(5, probe="preconditioned", lambda_1=30.0), observed(6)]

    trace = eigen_trace(observations)

    assert trace is not None
    assert trace.step.tolist() == [5, 6]
    assert (trace.preconditioned_step.tolist(), trace.preconditioned.tolist()) == ([5], [30.0])
    assert ("eigen/preconditioned_lambda_1", 30.0, 5) in step_metrics(observations)
    assert len(step_metrics(observations)) == 9


def test_adam_has_a_preconditioned_trace(tmp_path: Path) -> None:
    method = cases.method(next(space for space in cases.spaces() if space.name == "adam"))
    plan = cases.plan(method=method, trace=Trace(samples=20, last=None, every=3))
    with cases.project(tmp_path):
        rung, _ = run_rung(plan, None, 0, 2)

    trace = eigen_trace(rung.observations)

    assert trace is not None
    assert trace.step.tolist() == [0, 3, 6]
    assert len(trace.preconditioned) == len(trace.preconditioned_step)


def without_sign(observation: Observation) -> Observation:
    values = {name: value for name, value in observation.values.items() if name != "sign"}
    return Observation(observation.probe, observation.step, values)


def test_a_trace_of_earlier_versions_has_the_sign_that_its_verdict_tells() -> None:
    observations = [
        without_sign(observed(0, verdict="indefinite")),
        without_sign(observed(1)),
        observed(2, sign="opposite"),
    ]
    check_observations(observations)

    trace = eigen_trace(observations)

    assert trace is not None
    assert trace.sign.tolist() == ["opposite", "", "opposite"]
    arrays = from_npz(trace.to_bytes(), "eigen.npz")
    del arrays["sign"]
    assert EigenTrace.from_bytes(to_npz(arrays)).sign.tolist() == ["opposite", "", ""]


def test_a_sign_that_is_no_word_is_refused() -> None:
    with pytest.raises(OptstudyError, match=r"^sign of the observation at step 3 is 1\.0$"):
        check_observations([observed(3, sign=1.0)])
