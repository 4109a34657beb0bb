"""Rungs come back as they were written, under keys that hold all that determines them."""

import dataclasses
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import evidence
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optstudy.records import plan as plan_records
from optstudy.records.arrays import to_npz
from optstudy.records.forms import to_form
from optstudy.records.plan import Method, Plan, Split, Trace, run_key
from optstudy.records.run import EpochRecord, Observation, Rung
from optstudy.study.run_cache import RunCache, Stored
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
whole = st.integers(0, 10**15)
share, time = st.floats(0, 1), st.floats(0, 1e12)
records = st.builds(
    EpochRecord, whole, maybe, st.none() | share, maybe, share, maybe, time, time, whole, whole, maybe,
    st.none() | share, maybe,
)  # fmt: skip
written = st.builds(
    Rung,
    epochs=st.lists(records, min_size=1, max_size=2).map(
        lambda found: tuple(replace(record, epoch=2 - n) for n, record in enumerate(found))[::-1]
    ),
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


def state_of(*weights: float) -> bytes:
    """Return the state of a run at the end of its first epoch."""
    return RunState(1, 4, {"weights": torch.tensor(weights)}, {}, {}, {}).to_bytes()


def key(plan: Plan = PLAN, version: str = "2.9", sources: dict[str, str] | None = None) -> str:
    return run_key(plan, version, sources or {"net.py": "a", "data.py": "b"})


@settings(max_examples=30)
@given(rung=written, weights=st.lists(finite))
def test_a_rung_and_its_state_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rung: Rung, weights: list[float]
) -> None:
    stored, state = RunCache(tmp_path_factory.mktemp("study") / "rungs"), state_of(*weights)

    stored.write("run", 2, rung, state)

    assert stored.read("run", 2).content == rung
    assert stored.state("run", 2).content == state


def test_what_a_worker_returns_survives_the_disk(tmp_path: Path) -> None:
    stored = RunCache(tmp_path / "rungs")
    with cases.project(tmp_path):
        rung, state = run_rung(PLAN, None, 0, 2)

    stored.write("run", 2, rung, state)

    assert stored.read("run", 2).content == rung
    assert stored.state("run", 2).content == state
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
        stored.write("run", epoch, example(epoch), state_of(epoch))
    stored.write("other", 1, example(), state_of())

    assert [stored.read("run", epoch).content for epoch in (1, 2, 3)] == [example(1), example(2), example(3)]
    assert [stored.state("run", epoch).content for epoch in (1, 2, 3)] == [None, None, state_of(3)]
    assert stored.state("other", 1).content == state_of()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "0001.json",
        "0002.json",
        "0003.json",
        "0003.pt",
    ]


def test_a_failed_rung_has_a_history_and_no_state(tmp_path: Path) -> None:
    stored, failed = RunCache(tmp_path), Rung((), (), "failed", problem="memory is short")
    stored.write("run", 1, example(), state_of())

    stored.write("run", 2, failed, None)

    assert stored.read("run", 2).content == failed
    assert stored.state("run", 1).content is None
    assert stored.state("run", 2).content is None


def test_missing_files_read_as_none(tmp_path: Path) -> None:
    stored = RunCache(tmp_path / "nothing")

    for missing in (
        stored.read("run", 1),
        stored.state("run", 1),
        stored.curvature("run"),
        stored.pace("run"),
    ):
        assert (missing.content, missing.damage) == (None, "")
    stored.drop_state("run")


def test_a_history_cut_anywhere_is_set_aside(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 1, example(), None)
    path = tmp_path / "run" / "0001.json"
    content = path.read_bytes()

    for number, length in enumerate(range(0, len(content.rstrip()), 7), 1):
        path.write_bytes(content[:length])
        found = stored.read("run", 1)
        assert found.content is None
        assert found.damage.startswith(str(path))
        assert found.damage.endswith(f"; it is kept as 0001.json.damaged-{number} and computed again")
        assert (tmp_path / "run" / f"0001.json.damaged-{number}").read_bytes() == content[:length]


FORM = to_form(example())
[RECORD] = FORM["epochs"]
OBSERVED = {"probe": "eigen", "step": 3, "values": {"lambda_1": 1.0}}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"[]", b"3", b"{}", b'{"epochs": [{}]}', b"null", b"\x00" * 50, b"[" * 100_000,
        {**FORM, "epochs": []}, {**FORM, "epochs": [RECORD, RECORD]}, {**FORM, "machine": 5},
        {**FORM, "epochs": [{**RECORD, "epoch": 2}]}, {**FORM, "epochs": [{**RECORD, "epoch": 0}]},
        {**FORM, "epochs": [{**RECORD, "epoch": 1}, {**RECORD, "epoch": 3}]},
        {**FORM, "epochs": [{**RECORD, "heldout_accuracy": None}]},
        {**FORM, "epochs": [{**RECORD, "heldout_accuracy": 1.5}]},
        {**FORM, "epochs": [{**RECORD, "train_accuracy": -0.1}]},
        {**FORM, "epochs": [{**RECORD, "heldout_accuracy": "0.5"}]},
        {**FORM, "epochs": [{**RECORD, "gradients": 10**400}]}, {**FORM, "epochs": [{**RECORD, "seconds": 1e300}]},
        {**FORM, "epochs": [{**RECORD, "seconds": math.nan}]}, {**FORM, "epochs": [{**RECORD, "train_loss": math.inf}]},
        {**FORM, "outcome": "completed"}, {**FORM, "outcome": "completed", "predicted": [1, 2]},
        {**FORM, "outcome": "completed", "predicted": [0, 1, -1]}, {**FORM, "outcome": "done"},
        {**FORM, "observations": [OBSERVED]}, {**FORM, "checksum": 5}, {**FORM, "checksum": "0" * 64},
    ],
    ids=range(30),
)  # fmt: skip
def test_a_history_that_is_something_else_is_set_aside(content: Any, tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    path = tmp_path / "run" / "0001.json"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    found = stored.read("run", 1, predictions=3)

    assert found.content is None
    assert "\n" not in found.damage
    assert found.damage.startswith(str(path))
    assert [file.name for file in path.parent.iterdir()] == ["0001.json.damaged-1"]


def test_a_digit_of_a_history_changed_anywhere_is_detected(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 1, example(), None)
    path = tmp_path / "run" / "0001.json"
    text = path.read_text()

    for place in (n for n, letter in enumerate(text) if letter.isdigit()):
        path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
        assert stored.read("run", 1).content is None


def test_a_bit_of_a_state_or_of_a_curvature_changed_anywhere_is_detected(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 1, example(), state_of(1.0))
    stored.write_curvature("run", evidence.curvature_result(1.0).to_bytes())
    for name, read in (
        ("0001.pt", lambda: stored.state("run", 1)),
        ("analysis.npz", lambda: stored.curvature("run")),
    ):
        path = tmp_path / "run" / name
        whole = path.read_bytes()
        for place in {*range(0, len(whole), 37), *range(len(whole) - 100, len(whole))}:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            assert read().content is None
            (path.parent / f"{name}.damaged-1").unlink()
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            assert read().content is None
            (path.parent / f"{name}.damaged-1").unlink()


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_set_aside(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    (tmp_path / "run" / "0001.json").mkdir(parents=True)
    (tmp_path / "other").touch()

    for key in ("run", "other"):
        assert stored.read(key, 1).content is None
        stored.write(key, 1, example(), state_of())
        assert stored.read(key, 1).content == example()
    assert {path.name for path in tmp_path.iterdir()} == {"run", "other", "other.damaged-1"}


def test_files_of_versions_without_checksums_are_read_and_said_to_have_none(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "0001.json").write_text(json.dumps(FORM))
    (folder / "0001.pt").write_bytes(state_of(1.0))
    (folder / "analysis.npz").write_bytes(evidence.curvature_result(1.0).to_bytes())
    (folder / "pace.json").write_text(json.dumps({"step_seconds": 0.1, "steps": 7, "timed_at": 1e9}))

    read: list[Stored[Any]] = [
        stored.read("run", 1), stored.state("run", 1), stored.curvature("run"), stored.pace("run")
    ]  # fmt: skip
    assert [found.content is not None for found in read] == [True] * 4
    assert [found.has_checksum for found in read] == [False] * 4


def test_a_damaged_state_of_a_version_without_checksums_is_set_aside(tmp_path: Path) -> None:
    stored, path = RunCache(tmp_path), tmp_path / "run" / "0001.pt"
    path.parent.mkdir()
    whole = state_of(*map(float, range(100)))
    weights = whole.index(np.arange(100, dtype=np.float32).tobytes())

    flipped = whole[: weights + 9] + b"\1" + whole[weights + 10 :]
    for damaged in (b"", whole[:-1], whole[:100], to_npz({"a": 1}), flipped):
        path.write_bytes(damaged)
        assert stored.state("run", 1).damage.startswith(str(path))


def test_files_of_other_names_beside_those_of_a_run_are_neither_read_nor_removed(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 1, replace(example(), outcome="completed"), state_of())
    others = [
        tmp_path / "run" / name for name in ("notes.json", "0001 (copy).json", "1.json", "mine.pt", "9.pt")
    ]
    for other in others:
        other.write_text("mine")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.json").touch()

    assert stored.finished(measured=False) == {"run"}
    stored.drop_state("run")
    assert [other.read_text() for other in others] == ["mine"] * 5


def test_a_recomputed_history_leaves_a_later_state(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 2, example(2), state_of(2.0))

    stored.write("run", 1, example(1), state_of(1.0))

    assert stored.state("run", 2).content == state_of(2.0)


def test_a_state_can_be_dropped(tmp_path: Path) -> None:
    stored = RunCache(tmp_path)
    stored.write("run", 1, example(), state_of())

    stored.drop_state("run")

    assert (stored.read("run", 1).content, stored.state("run", 1).content) == (example(), None)


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
        (Rung((TRIAL,), (), "running"), state_of(), False, True, False),
        (Rung((TRIAL,), (), "running"), None, False, True, True),  # pruned
        (Rung((TRIAL,), (), "completed"), state_of(), False, True, True),
        (Rung((), (), "failed", problem="ValueError"), None, False, True, True),
        (Rung((FINAL,), (), "running"), state_of(), False, True, False),
        (Rung((FINAL,), (), "completed"), state_of(), False, True, False),
        (Rung((FINAL,), (), "completed"), state_of(), True, True, True),
        (Rung((FINAL,), (UNTRACKED,), "completed"), state_of(), True, True, False),
        (Rung((FINAL,), (), "completed"), state_of(), False, False, True),
        (Rung((FINAL,), (), "diverged"), state_of(), False, True, True),
    ],
)
def test_a_run_is_finished_if_it_has_nothing_left_to_do(
    rung: Rung, state: bytes | None, analysis: bool, measured: bool, finished: bool, tmp_path: Path
) -> None:
    cache = RunCache(tmp_path / "rungs")
    cache.write("3-key", 1, replace(rung, epochs=(replace(TRIAL, epoch=1),), outcome="running"), state_of())
    cache.write("3-key", 2, rung, state)
    if state is None:
        cache.drop_state("3-key")
    if analysis:
        cache.write_curvature("3-key", evidence.curvature_result(1.0).to_bytes())

    assert cache.finished(measured=measured) == ({"3-key"} if finished else set())


def test_a_cache_that_was_not_written_has_no_finished_run(tmp_path: Path) -> None:
    assert RunCache(tmp_path / "none").finished(measured=True) == frozenset()
