"""`optstudy reproduce` prints the comparison, and its exit status is 1 if a run differs."""

import io
import json
from pathlib import Path

import pytest
import tiny
import torch
from commands import Run

from optstudy.execution.pool import WorkerPool
from optstudy.tracking import embedded

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
    assert ended.err == f"optstudy: 1 of 1 runs differ from their record: {RUN}\n"


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

    ended = run("reproduce", RUN, "--runs", named)

    assert ended.status == 0
    assert "identical to the bit" in ended.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["tiny/sgd/seed-9"], "study 'tiny' has no finished run 'sgd/seed-9'"),
        ([RUN, "--runs", "nowhere"], "cannot read nowhere/runs.json"),
        ([RUN, "--tolerance", "nan"], "--tolerance is nan; give a fraction such as 0.01"),
        ([RUN, "--device", "abacus"], "device 'abacus' is not available"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], problem: str, finished_copy: Path, run: Run) -> None:
    ended = run("reproduce", *arguments)

    assert ended.status == 2
    assert problem in ended.line
