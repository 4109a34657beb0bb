"""Records in files: names that do not change, later fields that may be absent, and mistakes told in one line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cases
import pytest

from optstudy.optimizers import load_space
from optstudy.records import curvature, eigen_trace, forms, plan, run, search, space
from optstudy.records.forms import FORMS, FormError, from_form, from_json, to_form
from optstudy.records.plan import Method, Plan, Trace, run_key
from optstudy.records.run import EpochRecord, Observation, Rung
from optstudy.study import run_cache

PLAN = cases.plan(
    method=Method("torch.optim.Adam", {"lr": 0.1, "betas": (0.9, 0.99)}), trace=Trace(100, None)
)
MODULES = (curvature, eigen_trace, plan, run, run_cache, search, space)


@dataclass(frozen=True)
class LaterPlan(Plan):
    """A plan of a version to come."""

    precision: str = "float32"


@pytest.mark.parametrize("name", FORMS)
def test_every_frozen_field_is_one_of_a_record(name: str) -> None:
    [record] = {getattr(module, name) for module in MODULES if hasattr(module, name)}

    assert set(FORMS[name]) <= {field.name for field in fields(record)}


def test_a_plan_has_the_names_of_the_first_version() -> None:
    assert to_form(PLAN) == {
        "dataset": PLAN.dataset,
        "split": {"role": "final", "validation": 0, "size": 0, "seed": 0},
        "model": PLAN.model,
        "loss": "cross_entropy",
        "method": {
            "optimizer": "torch.optim.Adam",
            "arguments": {"lr": 0.1, "betas": [0.9, 0.99]},
            "needs": "",
            "seeded": False,
            "hessian_products": 0,
        },
        "epochs": PLAN.epochs,
        "sweep_epochs": list(PLAN.sweep_epochs),
        "batch_size": PLAN.batch_size,
        "seed": PLAN.seed,
        "device": "cpu",
        "threads": 1,
        "trace": {"samples": 100, "last": None, "every": 1, "seed": 0},
        "deterministic": False,
    }


def test_a_later_field_changes_neither_key_nor_file_until_it_is_set() -> None:
    later = LaterPlan(**vars(PLAN))
    key = run_key(PLAN, "2.14.1", {})

    assert to_form(later) == to_form(PLAN)
    assert run_key(later, "2.14.1", {}) == key
    assert to_form(replace(later, precision="bfloat16")) == {**to_form(PLAN), "precision": "bfloat16"}
    assert run_key(replace(later, precision="bfloat16"), "2.14.1", {}) != key
    assert from_form(LaterPlan, to_form(PLAN), "a file") == replace(
        later, method=replace(PLAN.method, arguments={"lr": 0.1, "betas": [0.9, 0.99]})
    )


def test_a_field_keeps_its_name_in_files_when_python_renames_it(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Renamed:
        cost_to_target: int

    monkeypatch.setitem(forms.FORMS, "Renamed", {"cost_to_target": "reached"})

    assert to_form(Renamed(3)) == {"reached": 3}
    assert from_form(Renamed, {"reached": 3}, "a file") == Renamed(3)


def test_what_was_optional_in_the_first_files_may_be_absent() -> None:
    epoch = EpochRecord(1, 0.5, None, 0.5, 0.5, 0.5, 0.5, 0.5, 4, 0)
    rung = Rung(
        (epoch,), (Observation("eigen", 3, {"ratio": None, "verdict": "separated"}),), "completed", (1, 2)
    )
    content = json.loads(json.dumps(to_form(rung)))
    del content["machine"]

    assert from_form(Rung, content, "a file") == rung


@pytest.mark.parametrize("name", ["sgd", "adam", "adahessian"])
def test_a_space_is_read_as_it_was_written(name: str) -> None:
    read = from_json(space.Space, json.dumps(to_form(load_space(name, Path()))), "search.json")

    assert to_form(read) == to_form(load_space(name, Path()))
    assert read.search == load_space(name, Path()).search


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"epochs": "three"}, "epochs is 'three'; it must be a whole number"),
        ({"epochs": True}, "epochs is True; it must be a whole number"),
        ({"epochs": 1.5}, "epochs is 1.5; it must be a whole number"),
        ({"dataset": None}, "dataset is None; it must be a string"),
        ({"deterministic": 0}, "deterministic is 0; it must be true or false"),
        ({"sweep_epochs": 3}, "sweep_epochs is 3; it must be a list"),
        ({"sweep_epochs": [1, "2"]}, "sweep_epochs[1] is '2'; it must be a whole number"),
        ({"split": []}, "split is []; it must be an object"),
        ({"split": {"role": "test"}}, "split.role is 'test'; it must be 'tuning' or 'final'"),
        ({"split": {"validation": 5}}, "split.role is missing; it must be 'tuning' or 'final'"),
        ({"split": {"role": "tuning"}}, "split: a split holds out 0 examples for validation; hold out at least 1"),
        ({"trace": 5}, "trace is 5; it must be an object or null"),
        ({"trace": {"samples": "all", "last": 3}}, "trace.samples is 'all'; it must be a whole number or null"),
        ({"method": {"optimizer": "x", "arguments": []}}, "method.arguments is []; it must be an object"),
        ({"epoch": 3}, "epoch is unknown (did you mean 'epochs'?)"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_with_its_location_and_the_expected_kind(
    change: Mapping[str, Any], line: str
) -> None:
    content = {**json.loads(json.dumps(to_form(PLAN))), **change}

    with pytest.raises(FormError) as raised:
        from_form(Plan, content, "plan.json of run 1a2b")

    assert str(raised.value) == f"plan.json of run 1a2b: {line}"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"[1]", "plan.json is [1]; it must be an object"),
        (b"", "plan.json is damaged (it is not JSON: "),
        (b"\xff", "plan.json is damaged (it is not JSON: "),
        (b"{}", "plan.json: dataset is missing; it must be a string"),
    ],
)
def test_a_file_that_holds_no_record_is_one_line_with_its_name(data: bytes, line: str) -> None:
    with pytest.raises(FormError) as raised:
        from_json(Plan, data, "plan.json")

    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
