"""Weights are measured on a sample as a dense Hessian says, or refused by name."""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import numpy as np
import oracles
import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional

from optstudy.errors import OptstudyError, UsageError
from optstudy.posthoc.measure import Subject, measure, measure_all, train_weights
from optstudy.posthoc.request import CurvatureRequest
from optstudy.posthoc.samples import Sample, sampled_images
from optstudy.records.curvature import CurvatureResult
from optstudy.records.plan import Trace
from optstudy.training import advance, sample_images, start
from optstudy.workloads.datasets import load
from optstudy.workloads.models import build_model
from optstudy.workloads.splits import load_split

MORE = """
def raising(outputs, targets):
    raise KeyError("no loss today")
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[None]:
    with cases.project(tmp_path):
        with Path("net.py").open("a") as file:
            file.write(MORE)
        yield


def bytes_of(model: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue()


def subject(**changes: Any) -> Subject:
    plan = cases.plan(**changes)
    torch.manual_seed(0)
    return Subject("tiny/sgd/seed-0", plan, bytes_of(build_model(plan.model, load(plan.dataset))), "sgd")


def asked(**changes: Any) -> CurvatureRequest:
    return CurvatureRequest(target="tiny", **changes)


def model_of(one: Subject) -> nn.Module:
    model = build_model(one.plan.model, load(one.plan.dataset)).eval()
    assert one.weights is not None
    model.load_state_dict(torch.load(io.BytesIO(one.weights), weights_only=True))
    return model


def dense(one: Subject, sample: Sample) -> np.ndarray:
    images = sampled_images(one.plan, sample)
    assert isinstance(images, tuple)
    return oracles.dense_hessian(model_of(one), functional.cross_entropy, images).numpy()


@pytest.mark.parametrize(
    "sample", [Sample(20, seed=3), Sample(None), Sample(None, indices=(3, 1, 150)), Sample(1)]
)
def test_eigenvalues_are_those_of_the_dense_hessian_on_the_same_images(sample: Sample) -> None:
    found = measure(subject(), sample, asked(k=3))

    values = sorted(np.linalg.eigvalsh(dense(subject(), sample)), key=abs, reverse=True)
    assert found.values == pytest.approx(values[:3], rel=2e-3)
    assert found.ratio[1] <= abs(values[0] / values[1]) <= found.ratio[2]
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert min(abs(value - other) for other in values) <= residual + 1e-6
    images = sampled_images(subject().plan, sample)
    assert isinstance(images, tuple)
    assert found.samples == len(images[1])
    with torch.no_grad():
        loss = functional.cross_entropy(model_of(subject())(images[0]), images[1])
    assert found.loss == pytest.approx(float(loss), rel=1e-5)


def test_the_gradients_norm_is_that_of_the_sample() -> None:
    model, images = model_of(subject()), sampled_images(subject().plan, Sample(20))
    assert isinstance(images, tuple)
    slopes = torch.autograd.grad(
        functional.cross_entropy(model(images[0]), images[1]), list(model.parameters())
    )

    found = measure(subject(), Sample(20), asked())

    norm = math.sqrt(sum(float(slope.square().sum()) for slope in slopes))
    assert found.gradient_norm == pytest.approx(norm, rel=1e-5)


def test_a_count_and_a_seed_mean_the_images_of_a_runs_own_trace() -> None:
    plan = cases.plan(trace=Trace(samples=20, last=4, seed=5))

    own = sample_images(load_split(plan.dataset, plan.split)[0], 20, 5, "cpu")

    assert cases.bits(sampled_images(plan, Sample(20, 5))) == cases.bits(own)


@pytest.mark.parametrize(
    "how", [asked(), asked(k=1), asked(density=True, landscape=True), asked(k=1, landscape=True)]
)
def test_json_has_the_names_that_others_rely_on_and_no_nan(how: CurvatureRequest) -> None:
    shown = measure(subject(), Sample(20), how).to_dict()

    wanted = {"eigenvalues", "residuals", "products", "dtype", "samples", "loss", "gradient_norm"}
    assert wanted <= shown.keys()
    assert len(shown["eigenvalues"]) == len(shown["residuals"]) == how.k
    assert shown.get("ratio", {}).keys() == (
        {"value", "low", "high", "verdict", "sign"} if how.k > 1 else set()
    )
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert ("trace" in shown) == how.density
    assert ("loss_rise" in shown) == how.landscape


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    found = measure(subject(), Sample(20), asked())

    shown = replace(
        found, loss=math.inf, ratio=np.array([math.inf, 1.0, math.inf]), gradient_norm=math.nan
    ).to_dict()

    assert shown["loss"] is None
    assert shown["gradient_norm"] is None
    assert shown["ratio"] == {
        "value": None,
        "low": 1.0,
        "high": None,
        "verdict": found.verdict,
        "sign": found.sign,
    }


def test_one_eigenvalue_has_no_ratio() -> None:
    found = measure(subject(), Sample(20), asked(k=1, landscape=True))

    assert "ratio" not in found.to_dict()
    assert np.isnan(found.ratio).all()
    assert (len(found.values), len(found.residuals), found.verdict) == (1, 1, "unresolved")
    assert found.plane.shape == (41, 41)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_can_be_asked_for(dtype: str) -> None:
    found = measure(subject(), Sample(20), asked(dtype=dtype, density=True))

    assert found.dtype == dtype


def test_only_what_is_asked_for_is_measured() -> None:
    found = measure(subject(), Sample(20), asked(density=True))

    assert len(found.grid)
    assert not len(found.line)
    assert math.isnan(found.loss_rise)


def diverged() -> Subject:
    model = model_of(subject())
    with torch.no_grad():
        next(model.parameters())[0] = math.nan
    return replace(subject(), weights=bytes_of(model))


def beyond_all_memory() -> Subject:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(1).expand(10**12)}, buffer)
    return replace(subject(), weights=buffer.getvalue())


def of_other_names() -> Subject:
    weights = torch.load(io.BytesIO(subject().weights or b""), weights_only=True)
    renamed = {f"net.{name}": value for name, value in weights.items()}
    buffer = io.BytesIO()
    torch.save(renamed, buffer)
    return replace(subject(), weights=buffer.getvalue())


def of_another_model() -> Subject:
    return replace(subject(), weights=bytes_of(nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("one", "how", "kind", "said"),
    [
        (lambda: subject(model="net.py:Scaled"), asked(), UsageError, " has 1 parameter, fewer than the 2"),
        (lambda: subject(model="net.py:Scaled"), asked(k=1, landscape=True), UsageError, " has 1 parameter, fewer"),
        (subject, asked(k=197), UsageError, " has 196 parameters, fewer than the 197 eigenvalues requested"),
        (diverged, asked(), OptstudyError, ": its weights are not all finite numbers; the run diverged"),
        (beyond_all_memory, asked(), OptstudyError, ": w of its weights is not a dense tensor of numbers"),
        (of_other_names, asked(), UsageError, ": the model's parameter names have changed since the run was trained"),
        (of_another_model, asked(), UsageError, ": weight has shape (2, 2), where the model has 0.weight of shape"),
        (
            lambda: subject(model="net.py:once"), asked(), OptstudyError,
            ": its curvature cannot be measured: net.py:once: ValueError: the Hessian is wrong",
        ),
        (
            lambda: subject(loss="net.py:raising"), asked(), OptstudyError,
            ": its curvature cannot be measured: net.py:",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_by_name_in_one_line(
    one: Any, how: CurvatureRequest, kind: type[OptstudyError], said: str
) -> None:
    with pytest.raises(OptstudyError) as raised:
        measure(one(), Sample(20), how)

    assert type(raised.value) is kind
    assert str(raised.value).startswith(f"tiny/sgd/seed-0{said}")
    assert "\n" not in str(raised.value)


def test_earlier_weights_are_those_that_the_run_had() -> None:
    plan = cases.plan()
    state, _ = advance(start(plan), plan, 1)

    assert cases.bits(dict(torch.load(io.BytesIO(train_weights(plan, 1)), weights_only=True))) == cases.bits(
        dict(state.model)
    )


def test_every_subject_is_measured_on_every_sample() -> None:
    early = Subject("tiny/sgd/seed-1", cases.plan(seed=1), None, "sgd", at="middle")

    found = list(
        measure_all([subject(), early], [Sample(10, 0), Sample(10, 1)], asked(), tiny.InProcessWorkers())
    )

    assert all(isinstance(one, CurvatureResult) for one in found)
    assert {(one.run, one.at, one.seed) for one in found if isinstance(one, CurvatureResult)} == {
        (name, at, seed)
        for name, at in (("tiny/sgd/seed-0", "end"), ("tiny/sgd/seed-1", "middle"))
        for seed in (0, 1)
    }
