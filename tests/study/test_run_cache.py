"""Rungs come back as they were written, under keys that hold all that determines them."""

import dataclasses
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import evidence
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optstudy.records import plan as plan_records
from optstudy.records.plan import Method, Plan, Split, Trace, run_key
from optstudy.records.run import EpochRecord, Observation, Rung
from optstudy.study.run_cache import RunCache
from optstudy.training import RunState, run_rung

METHOD = Method("torch.optim.Adam", {"lr": 0.1, "betas": (0.9, 0.99)})
PLAN = cases.plan(method=METHOD)
CHANGES: list[dict[str, Any]] = [
    {"dataset": "mnist"},
    {"split": Split("tuning", 10)},
    {"split": Split("final", 0, 50, 1)},
    {"model": "lenet5"},
    {"loss": "net.py:loss"},
    {"epochs": 3},
    {"sweep_epochs": (1, 2)},
    {"batch_size": 32},
    {"seed": 1},
    {"device": "cuda"},
    {"threads": 2},
    {"deterministic": True},
    {"method": replace(METHOD, optimizer="torch.optim.AdamW")},
    {"method": replace(METHOD, arguments={"lr": 0.1, "betas": (0.9, 0.999)})},
    {"method": replace(METHOD, arguments={"lr": 0.1})},
    {"method": replace(METHOD, needs="closure")},
    {"method": replace(METHOD, seeded=True)},
    {"method": replace(METHOD, hessian_products=1)},
    {"trace": Trace(samples=100, last=10)},
    {"trace": Trace(samples=100, last=None)},
    {"trace": Trace(samples=None, last=10)},
    {"trace": Trace(samples=100, last=10, every=2)},
    {"trace": Trace(samples=100, last=10, seed=1)},
]

finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | finite
whole = st.integers(0, 2**60)
records = st.builds(
    EpochRecord, whole, maybe, maybe, maybe, finite, maybe, finite, finite, whole, whole, maybe, maybe, maybe
)
written = st.builds(
    Rung,
    epochs=st.lists(records, max_size=4).map(tuple),
    observations=st.lists(
        st.builds(Observation, st.text(), whole, st.dictionaries(st.text(), maybe | st.text())), max_size=3
    ).map(tuple),
    outcome=st.sampled_from(["running", "completed", "diverged", "failed"]),
    predicted=st.none() | st.lists(whole, max_size=5).map(tuple),
    problem=st.text(),
    machine=st.dictionaries(st.text(), st.text()),
)


def example(epoch: int = 1) -> Rung:
    record = EpochRecord(epoch, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 4, 0)
    return Rung((record,), (), "running")


def key(plan: Plan = PLAN, version: str = "2.9", sources: dict[str, str] | None = None) -> str:
    return run_key(plan, version, sources or {"net.py": "a", "data.py": "b"})


@settings(max_examples=30)
@given(rung=written, state=st.binary(max_size=20))
def test_a_rung_and_its_state_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rung: Rung, state: bytes
) -> None:
    stored = RunCache(tmp_path_factory.mktemp("study") / "rungs")

    stored.write("run", 2, rung, state)

    assert stored.read("run", 2) == rung
    assert stored.state("run", 2) == state


def test_what_a_worker_returns_survives_the_disk(tmp_path: Path) -> None:
    stored = RunCache(tmp_path / "rungs")
    with cases.project(tmp_path):
        rung, state = run_rung(PLAN, None, 0, 2)

    stored.write("run", 2, rung, state)

    assert stored.read("run", 2) == rung
    assert stored.state("run", 2) == state
    assert RunState.from_bytes(state).epoch == 2


def test_a_key_of_format_3_holds() -> None:
    plan = Plan(
        "mnist",
        Split("final", 0, 0, 0),
        "lenet5",
        "cross_entropy",
        Method("torch.optim.SGD", {"lr": 0.1}),
        epochs=10,
        sweep_epochs=(10,),
        batch_size=100,
        seed=0,
        trace=Trace(100, 100),
    )

    assert run_key(plan, "2.14.1", {"net.py": "abc"}) == "3-461175e3d0e0c91824505489"


def test_a_key_of_format_3_with_every_field_set_holds() -> None:
    arguments = {"lr": 1e-3, "betas": (0.9, 0.99), "kind": "calm", "nesterov": True}
    plan = Plan(
        "data.py:load",
        Split("tuning", 60, 120, 3),
        "net.py:make",
        "net.py:loss",
        Method("touchy.py:Touchy", arguments, "closure", seeded=True, hessian_products=2),
        epochs=4,
        sweep_epochs=(2, 4),
        batch_size=25,
        seed=2003,
        device="cuda",
        threads=2,
        trace=Trace(None, None, 2, 5),
        deterministic=True,
    )

    assert run_key(plan, "2.14.1", {"net.py": "abc", "data.py": "é"}) == "3-70551827cb69435f7ff0afba"


def test_all_histories_are_kept_but_of_the_states_only_the_last(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    for epoch in (1, 2, 3):
        stored.write("run", epoch, example(epoch), bytes([epoch]))
    stored.write("other", 1, example(), b"other")

    assert [stored.read("run", epoch) for epoch in (1, 2, 3)] == [example(1), example(2), example(3)]
    assert [stored.state("run", epoch) for epoch in (1, 2, 3)] == [None, None, b"\x03"]
    assert stored.state("other", 1) == b"other"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "0001.json",
        "0002.json",
        "0003.json",
        "0003.pt",
    ]


def test_a_failed_rung_has_a_history_and_no_state(tmp_path: Path) -> None:
    stored, failed = RunCache(tmp_path), Rung((), (), "failed", problem="memory is short")
    stored.write("run", 1, example(), b"1")

    stored.write("run", 2, failed, None)

    assert stored.read("run", 2) == failed
    assert stored.state("run", 1) is None
    assert stored.state("run", 2) is None


def test_missing_files_read_as_none(tmp_path: Path) -> None:
    stored = RunCache(tmp_path / "nothing")

    assert stored.read("run", 1) is None
    assert stored.state("run", 1) is None
    stored.drop_state("run")


def test_a_history_cut_anywhere_reads_as_absent(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 1, example(), b"")
    (path,) = (tmp_path / "run").glob("*.json")
    content = path.read_bytes()

    for length in range(0, len(content.rstrip()), 7):
        path.write_bytes(content[:length])
        assert stored.read("run", 1) is None


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[]", b"3", b"{}", b'{"epochs": [{}]}', b"null", b"\x00" * 50]
)
def test_a_history_that_is_something_else_reads_as_absent(content: bytes, tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 1, example(), b"")
    (path,) = (tmp_path / "run").glob("*.json")
    path.write_bytes(content)

    assert stored.read("run", 1) is None


def test_a_state_can_be_dropped(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 1, example(), b"state")

    stored.drop_state("run")
    assert (stored.read("run", 1), stored.state("run", 1)) == (example(), None)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_field_of_a_plan_changes_its_key(change: dict[str, Any]) -> None:
    assert key(replace(PLAN, **change)) != key()


def test_the_changes_above_name_every_field() -> None:
    changed = {name for change in CHANGES for name in change}

    assert changed == {field.name for field in dataclasses.fields(Plan)}


def test_torch_the_users_files_and_the_format_change_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        key(),
        key(version="2.10"),
        key(sources={"net.py": "a", "data.py": "c"}),
        key(sources={"net.py": "a"}),
    ]
    monkeypatch.setattr(plan_records, "FORMAT", plan_records.FORMAT + 1)

    assert len({*found, key()}) == 5


def test_a_key_does_not_depend_on_the_order_of_names() -> None:
    turned = replace(METHOD, arguments=dict(reversed([*METHOD.arguments.items()])))

    assert key(replace(PLAN, method=turned)) == key()
    assert key(sources={"data.py": "b", "net.py": "a"}) == key()


def test_a_key_is_a_short_name_for_a_folder() -> None:
    assert re.fullmatch(r"\d+-[0-9a-f]{24}", key())


TRIAL = EpochRecord(2, 0.1, 0.9, 0.2, 0.8, 1.0, 1.0, 1.0, 12, 0)
FINAL = replace(TRIAL, exact_loss=0.1, exact_accuracy=0.9)
UNTRACKED = Observation("eigen", 20, {"problem": "MemoryError: "})


@pytest.mark.parametrize(
    ("rung", "state", "analysis", "measured", "finished"),
    [
        (Rung((TRIAL,), (), "running"), b"state", False, True, False),
        (Rung((TRIAL,), (), "running"), None, False, True, True),  # pruned
        (Rung((TRIAL,), (), "completed"), b"state", False, True, True),
        (Rung((), (), "failed", problem="ValueError"), None, False, True, True),
        (Rung((FINAL,), (), "running"), b"state", False, True, False),
        (Rung((FINAL,), (), "completed"), b"state", False, True, False),
        (Rung((FINAL,), (), "completed"), b"state", True, True, True),
        (Rung((FINAL,), (UNTRACKED,), "completed"), b"state", True, True, False),
        (Rung((FINAL,), (), "completed"), b"state", False, False, True),
        (Rung((FINAL,), (), "diverged"), b"state", False, True, True),
    ],
)
def test_a_run_is_finished_if_it_has_nothing_left_to_do(
    rung: Rung, state: bytes | None, analysis: bool, measured: bool, finished: bool, tmp_path: Path
) -> None:
    cache = RunCache(tmp_path / "rungs")
    cache.write("3-key", 1, Rung((), (), "running"), b"state")
    cache.write("3-key", 2, rung, state)
    if state is None:
        cache.drop_state("3-key")
    if analysis:
        cache.write_curvature("3-key", evidence.curvature_result(1.0).to_bytes())

    assert cache.finished(measured=measured) == ({"3-key"} if finished else set())


def test_a_cache_that_was_not_written_has_no_finished_run(tmp_path: Path) -> None:
    assert RunCache(tmp_path / "none").finished(measured=True) == frozenset()
