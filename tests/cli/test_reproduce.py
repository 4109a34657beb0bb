"""`optstudy reproduce` prints the comparison, and its exit status is 1 if a run differs."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import reports
import tiny
import torch
from commands import Run
from studies import drop_checksums

from optstudy.comparison.read import read_studies
from optstudy.execution.pool import WorkerPool
from optstudy.records.location import Location
from optstudy.report.archive import RUNS, archive
from optstudy.tracking import embedded, open_existing
from optstudy.tracking.evidence import read_files

RUN = "tiny/sgd/seed-0"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers take seconds to start; tests of execution and the README's commands have real ones."""
    monkeypatch.setattr(WorkerPool, "workers", lambda *_, **__: tiny.InProcessWorkers())


@pytest.fixture
def changed(finished_copy: Path) -> Path:
    """The workspace, a weight of a run changed."""
    for path in embedded.artifacts(finished_copy).rglob("weights.pt"):
        weights = torch.load(path, weights_only=True)
        next(iter(weights.values()))[0, 0] += 1.0
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        path.write_bytes(buffer.getvalue())
    drop_checksums(finished_copy)
    return finished_copy


def test_an_identical_run_is_reported_as_identical(finished_copy: Path, run: Run) -> None:
    ended = run("reproduce", RUN)

    assert ended.status == 0
    assert "code, data and machine match the record" in ended.out
    assert f"\n{RUN}: identical to the bit, " in ended.out
    assert ended.err == "rerunning 1 run, 2 epochs in all\n"


def test_a_different_run_fails_in_one_line_after_what_was_found(changed: Path, run: Run) -> None:
    ended = run("reproduce", RUN, "--quiet")

    assert ended.status == 1
    assert f"{RUN}: different" in ended.out
    assert "first differ at [0, 0] in weights/1.weight" in ended.out
    assert "identical to the bit: final/train_accuracy, final/test_accuracy" in ended.out
    assert ended.err.splitlines()[-1] == f"optstudy: 1 of 1 runs differ from their record: {RUN}"


def test_json_tells_the_same(changed: Path, run: Run) -> None:
    ended = run("reproduce", "tiny/sgd", "--json", "--quiet")

    first, second = json.loads(ended.out)
    assert ended.status == 1
    assert [first["run"], second["run"]] == ["tiny/sgd/seed-0", "tiny/sgd/seed-1"]
    assert first["judgement"] == "different"
    assert first["first_parted"] == {"metric": "weights/1.weight", "at": "[0, 0]"}
    metrics = {one["metric"]: one for one in first["metrics"]}
    assert (metrics["train/loss"]["judgement"], metrics["train/loss"]["difference"]) == ("identical", 0.0)


@pytest.mark.parametrize("named", ["report", "report/runs.json"])
def test_a_reports_files_serve_by_folder_or_by_name(named: str, finished_copy: Path, run: Run) -> None:
    run("report", "--study", "tiny", "--output", "report")

    ended = run("reproduce", RUN, "--runs", named, "--trust")

    assert ended.status == 0
    assert "identical to the bit" in ended.out


def test_code_that_a_report_names_is_refused_or_listed_before_it_is_imported(
    finished_copy: Path, run: Run
) -> None:
    run("report", "--study", "tiny", "--output", "report")
    with (finished_copy / "net.py").open("a") as file:
        file.write("import sys\n\nprint('imported', file=sys.stderr)\n")

    refused = run("reproduce", RUN, "--runs", "report")
    trusted = run("reproduce", RUN, "--runs", "report", "--trust", "--quiet")

    assert refused.status == 2
    assert refused.line == (
        f"optstudy: {RUN} is a record from elsewhere, and names code of its own: dataset 'images.py:load',"
        " model 'net.py:make'; read that code, and give --trust to import and run it"
    )
    lines = trusted.err.splitlines()
    assert lines[:2] == ["note: imports dataset 'images.py:load'", "note: imports model 'net.py:make'"]
    assert "note: 'net.py' differs: recorded with SHA-256 " in lines[3]
    assert lines.index("imported") > 3


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "http.server:test"},
        {"model": "/nowhere/evil.py:make"},
        {"model": "../../evil.py:make"},
        {"dataset": "net.py:make"},
        {"loss": "builtins:print"},
        {"method": {"optimizer": "builtins:exec", "arguments": {"x": 1}}},
        {"method": {"optimizer": "torch.optim.SGD", "arguments": {"params": 1, "lr": "much"}}},
        {"epochs": -1},
        {"epochs": 1_000_000},
        {"threads": 10**9},
        {"device": "cuda:999"},
        {"device": "meta"},
        {"device": "\x1b[31m"},
    ],
)
def test_a_plan_that_cannot_be_rerun_is_one_line_even_if_it_is_trusted(
    changes: dict[str, Any], finished_copy: Path, run: Run
) -> None:
    tracking = open_existing(Location())
    files, content = reports.unsealed(archive(read_files(tracking, read_studies(tracking, ["tiny"]))))
    for archived in content["runs"]:
        archived["plan"] |= changes
    for name, data in (files | {RUNS: json.dumps(content).encode()}).items():
        (finished_copy / name).write_bytes(data)

    ended = run("reproduce", RUN, "--runs", ".", "--trust", "--quiet")

    notes = ("note: ", "optstudy: ")
    assert ended.status in (1, 2)
    assert ended.out == ""
    assert [line for line in ended.err.splitlines() if not line.startswith(notes)] == []
    assert sum(line.startswith("optstudy: ") for line in ended.err.splitlines()) == 1
    assert ended.err.replace("\n", "").isprintable()


@pytest.mark.slow
def test_without_code_of_the_users_nothing_is_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # real workers
    shutil.copytree(Path(__file__).parents[1] / "stored" / "archive-0.0", tmp_path, dirs_exist_ok=True)
    content = json.loads((tmp_path / RUNS).read_text())
    for archived in content["runs"]:
        archived["plan"] |= {"epochs": 1, "sweep_epochs": [1], "trace": None}
        archived["plan"]["split"]["size"] = 100
        del archived["epochs"][1:]
    (tmp_path / RUNS).write_text(json.dumps(content))
    for name in ("numpy", "torch", "opt_einsum", "random", "triton"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w')\n")

    # As the console script, which does not import from the current folder either.
    program = [sys.executable, "-P", "-c", "from optstudy.cli import main; main()"]
    done = subprocess.run(
        [*program, "reproduce", "mnist/sgd/seed-0", "--runs", ".", "--jobs", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "mnist/sgd/seed-0: different" in done.stdout, done.stderr
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["tiny/sgd/seed-9"], "study 'tiny' has no finished run 'sgd/seed-9'"),
        ([RUN, "--runs", "nowhere"], "nowhere/runs.json: cannot be read (No such file or directory)"),
        ([RUN, "--tolerance", "nan"], "--tolerance is nan; give a fraction such as 0.01"),
        ([RUN, "--device", "abacus"], "device 'abacus' is not available"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], problem: str, finished_copy: Path, run: Run) -> None:
    ended = run("reproduce", *arguments)

    assert ended.status == 2
    assert problem in ended.line
