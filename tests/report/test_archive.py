"""A report's comparison is rebuilt from its files, to the last digit."""

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import evidence as made_up
import numpy as np
import pytest
import reports

from optstudy.comparison.table import Comparison
from optstudy.errors import UsageError
from optstudy.records.arrays import to_npz
from optstudy.records.evidence import Evidence
from optstudy.records.forms import to_form
from optstudy.records.io import replace_nonfinite
from optstudy.records.run import Predictions
from optstudy.report.archive import PREDICTIONS, RUNS, archive, read_archive

MANY = tuple(f"class {number}" for number in range(300))


def round_trip(evidence: Evidence, folder: Path, **excluded: int) -> Comparison:
    """Write the files, read them, and compare the runs that were read."""
    reports.write(archive(replace(evidence, excluded=excluded)), folder)
    return made_up.comparison_of(read_archive(folder))


def two_sets_of_images() -> Evidence:
    other = made_up.runs_of(("sgd", "adam"), 2, study="other", classes=("top", "middle", "low"))
    return Evidence((*made_up.runs_of(("sgd", "adam"), 2), *other), ())


def equal_labels_of_other_classes() -> Evidence:
    evidence = made_up.runs_of(("sgd",), 2)
    other = [
        replace(one, predictions=Predictions(p.labels, p.predicted, tuple("abcdefghij")))
        for one in made_up.runs_of(("sgd",), 2, study="other")
        if (p := one.predictions)
    ]
    return Evidence((*evidence, *other), ())


def some_without_predictions() -> Evidence:
    evidence = made_up.runs_of(("sgd", "adam"), 3)
    return Evidence((replace(evidence[0], predictions=None), *evidence[1:]), ())


def many_classes() -> Evidence:
    return Evidence(made_up.runs_of(("sgd", "adam"), 2, classes=MANY), ())


def not_finite() -> Evidence:
    runs = []
    for one, ratio, rise in zip(
        made_up.runs_of(("sgd",), 3), (math.inf, math.nan, 2.0), (1.0, math.inf, -math.inf), strict=True
    ):
        assert one.run.curvature is not None
        runs.append(made_up.with_run(one, curvature=replace(one.run.curvature, ratio=ratio, loss_rise=rise)))
    return Evidence(tuple(runs), ())


@pytest.mark.parametrize(
    "make",
    [
        *reports.CASES.values(),
        two_sets_of_images,
        equal_labels_of_other_classes,
        some_without_predictions,
        many_classes,
        not_finite,
    ],
)
def test_the_comparison_is_reproduced_to_the_last_digit(make: Callable[[], Evidence], tmp_path: Path) -> None:
    evidence = make()

    rebuilt = round_trip(evidence, tmp_path, failed=2)

    known = made_up.comparison_of(replace(evidence, excluded={"failed": 2}))
    assert rebuilt.to_dict() == known.to_dict()
    rebuilt = replace(rebuilt, looks=known.looks)  # which know more optimizers
    assert repr(rebuilt) == repr(known)  # numbers that are not finite too
    assert rebuilt.rows


def test_predictions_are_read_as_written(tmp_path: Path) -> None:
    evidence = Evidence(many_classes().runs + two_sets_of_images().runs[4:], ())

    reports.write(archive(evidence), tmp_path)
    restored = {one.run.run_id: one.predictions for one in read_archive(tmp_path).runs}

    assert restored.keys() == {one.run.run_id for one in evidence.runs}
    for one in evidence.runs:
        assert one.predictions is not None
        same = restored[one.run.run_id]
        assert same is not None
        assert np.array_equal(same.labels, one.predictions.labels)
        assert np.array_equal(same.predicted, one.predictions.predicted)
        assert same.classes == one.predictions.classes


def test_plans_and_epochs_of_all_runs_are_written(tmp_path: Path) -> None:
    evidence = reports.made_up(("sgd", "adam"), 2)

    reports.write(archive(evidence), tmp_path)

    plans = {one.run.run_id: one.plan for one in read_archive(tmp_path).runs}
    for one in evidence.runs:
        assert one.plan is not None
        assert to_form(plans[one.run.run_id]) == replace_nonfinite(to_form(one.plan))
    runs = json.loads((tmp_path / RUNS).read_text())["runs"]
    assert [len(run["epochs"]) for run in runs] == [len(one.epochs) for one in evidence.runs]


def test_each_run_and_each_search_has_a_line(tmp_path: Path) -> None:
    lines = archive(reports.made_up(("sgd", "adam"), 2))[RUNS].decode().splitlines()

    assert [line[:12] for line in lines] == [
        '{"runs":[',
        *['{"run_id":"q'] * 4,
        '{"study":"qu',
        '{"study":"qu',
    ]


def test_no_file_contains_local_paths() -> None:
    for data in archive(reports.typical()).values():
        assert b"/home/me" not in data
        assert str(Path.cwd()).encode() not in data


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (RUNS, None, f"{{}}/{RUNS}: cannot be read (No such file or directory); give the folder of a report"),
        (PREDICTIONS, None, f"{{}}/{PREDICTIONS}: cannot be read (No such file or directory)"),
        (RUNS, b'{"runs": [', f"{{}}/{RUNS} is damaged (it is not JSON: "),
        (RUNS, b"\xff\xfe", f"{{}}/{RUNS} is damaged (it is not JSON: "),
        (RUNS, b"[" * 100_000, f"{{}}/{RUNS} is damaged (it is nested too deeply); write the report again"),
        (RUNS, b"[]", f"{{}}/{RUNS} is []; it must be an object; write the report again"),
        (RUNS, b"{}", f"{{}}/{RUNS}: runs is missing; it must be a list; write the report again"),
        (RUNS, b'{"runs": [], "excluded": {}}', f"{{}}/{RUNS}: searches is missing; it must be a list"),
        (RUNS, b'{"runs": [{}]}', f"{{}}/{RUNS}: runs[0].run_id is missing; it must be a string"),
        (RUNS, b'{"runs": [4]}', f"{{}}/{RUNS}: runs[0] is 4; it must be an object"),
        (PREDICTIONS, b"", f"{{}}/{PREDICTIONS} is damaged (it is not a file of arrays: "),
        (PREDICTIONS, b"no archive", f"{{}}/{PREDICTIONS} is damaged (it is not a file of arrays: "),
        (PREDICTIONS, to_npz({"labels_0": [1]}), f"{{}}/{PREDICTIONS}, set 0: classes is missing"),
    ],
)  # fmt: skip
def test_a_damaged_or_absent_file_is_named_in_one_line(
    name: str, data: bytes | None, message: str, tmp_path: Path
) -> None:
    reports.write(reports.unsealed(archive(Evidence(made_up.runs_of(("sgd",), 1), ())))[0], tmp_path)
    (tmp_path / name).unlink()
    if data is not None:
        (tmp_path / name).write_bytes(data)

    with pytest.raises(UsageError) as caught:
        read_archive(tmp_path)

    assert str(caught.value).startswith(message.format(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_changed_digit_of_either_file_is_told(tmp_path: Path) -> None:
    files = archive(reports.made_up(("sgd",), 1))
    assert b'"seed":0' in files[RUNS]
    others = archive(reports.made_up(("adam",), 1))

    for changed, name in (
        ({RUNS: files[RUNS].replace(b'"seed":0', b'"seed":1', 1)}, RUNS),
        ({PREDICTIONS: others[PREDICTIONS]}, PREDICTIONS),
    ):
        reports.write({**files, **changed}, tmp_path)
        with pytest.raises(UsageError, match=f"{name} does not agree with its checksum.*; write the report"):
            read_archive(tmp_path)


@pytest.mark.parametrize("field", ["run_id", "study", "optimizer", "config"])
@pytest.mark.parametrize("name", ["../../../x", "", "[/red]", "\x1b[31m", "/etc", ".hidden"])
def test_a_name_that_no_workspace_would_take_is_refused(field: str, name: str, tmp_path: Path) -> None:
    files, content = reports.unsealed(archive(Evidence(made_up.runs_of(("sgd",), 1), ())))
    content["runs"][0][field] = name
    reports.write(files | {RUNS: json.dumps(content).encode()}, tmp_path)

    with pytest.raises(UsageError) as caught:
        read_archive(tmp_path)

    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/{RUNS}: runs[0]: {field} name {name!r}: use ")
    assert line.isprintable()


@pytest.mark.parametrize("change", [{"study": "../x"}, {"space": {"name": "../../sgd"}}])
def test_a_search_with_such_a_name_is_refused_before_a_file_is_looked_up(
    change: dict[str, Any], tmp_path: Path
) -> None:
    files, content = reports.unsealed(archive(reports.typical()))
    search = content["searches"][0]
    search |= {
        name: {**search[name], **new} if isinstance(new, dict) else new for name, new in change.items()
    }
    reports.write(files | {RUNS: json.dumps(content).encode()}, tmp_path)

    with pytest.raises(UsageError, match=r"searches\[0\]: (study|optimizer) name '../"):
        read_archive(tmp_path)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "plan.dataset is missing; it must be a string"),
        ({"method": None}, "plan.method is None; it must be an object"),
        ({"epochs": -1}, "runs[0].plan: epochs is -1; it must be 0 to 1,000,000"),
        ({"batch_size": 0}, "runs[0].plan: batch_size is 0; it must be 1 to 9,223,372,036,854,775,807"),
        ({"threads": 0}, "runs[0].plan: threads is 0; it must be 1 to 1,024"),
        ({"seed": -1}, "runs[0].plan: seed is -1; it must be 0 to 9,223,372,036,854,775,807"),
        (
            {"seed": 10**400},
            " is damaged (it is not JSON: a whole number of 401 digits has more than 64 bits)",
        ),
        ({"sweep_epochs": [0]}, "runs[0].plan: an epoch of sweep_epochs is 0; it must be 1 to 1,000,000"),
    ],
)
def test_a_plan_that_no_study_could_have_is_one_line(
    changes: Mapping[str, Any], line: str, tmp_path: Path
) -> None:
    files, content = reports.unsealed(archive(reports.made_up(("sgd",), 1)))
    content["runs"][0]["plan"] = {**content["runs"][0]["plan"], **changes} if changes else {}
    reports.write(files | {RUNS: json.dumps(content).encode()}, tmp_path)

    with pytest.raises(UsageError) as caught:
        read_archive(tmp_path)

    assert line in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / RUNS))
    assert str(caught.value).endswith("; write the report again")


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_predictions_that_are_cut_short_or_changed_never_show_a_traceback(place: int, tmp_path: Path) -> None:
    files = archive(Evidence(made_up.runs_of(("sgd",), 1), ()))
    data = files[PREDICTIONS]
    at = place * len(data) // 100
    for damaged in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]):
        reports.write(files | {PREDICTIONS: damaged}, tmp_path)
        with contextlib.suppress(UsageError):  # or nothing, where the byte meant nothing
            read_archive(tmp_path)


def test_files_of_the_first_version_are_read_and_rewritten_with_the_same_content(
    tmp_path: Path,
) -> None:
    folder = Path(__file__).parents[1] / "stored" / "archive-0.0"  # 4 runs and 2 searches of docs/results

    evidence = read_archive(folder)

    first = evidence.runs[0].run
    assert (first.optimizer, first.seed, first.test_accuracy) == ("sgd", 0, 0.9877)
    assert first.provenance.sources is None  # they were not recorded then
    assert first.provenance.versions == {"optstudy": "0.1.0", "optuna": "5.0.0", "torch": "2.14.1"}
    assert first.curvature is not None
    assert first.curvature.ratio == 1.6512079142480083
    assert [row.optimizer for row in made_up.comparison_of(evidence).rows] == ["sgd", "adahessian"]
    for one in evidence.runs:
        assert one.predictions is not None
        assert one.predictions.correct.mean() == pytest.approx(one.run.test_accuracy, abs=1e-12)
    before, rewritten = (folder / RUNS).read_text(), archive(evidence)[RUNS].decode()
    added = {"sources": None, "key": ""}
    lines = [
        {**line, **added, "plan": {**line["plan"], "deterministic": False}}
        for line in json.loads(before)["runs"]
    ]
    again = json.loads(rewritten)
    del again["checksum"], again["predictions"]
    assert again == {**json.loads(before), "runs": lines}
    assert evidence.unchecked == 4 + 2
