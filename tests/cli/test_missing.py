"""What could not be measured or trained costs nothing else, and every table says that it is missing, and why."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny
from commands import Run

from optstudy.curvature import EigenTracker
from optstudy.posthoc.reproduce.recorded import recorded_in_mlflow
from optstudy.posthoc.reproduce.rerun import Reproduction, reproduce
from optstudy.records.location import Location
from optstudy.report.tables.formats import render
from optstudy.study.estimate import StudyEstimate
from optstudy.study.events import RunEnded
from optstudy.study.status import read_statuses
from optstudy.tracking import open_existing

ONE_RUN: dict[str, Any] = {"configs": ("default",), "seeds": 1, "samples": 20, "eigen_last": 4}
CURVATURE = "RuntimeError: [/alloc:7] no memory for the landscape"
TRACE = "RuntimeError: expected scalar type Double but found Float"


def train(**changes: Any) -> list[Any]:
    return list(tiny.study(**{**ONE_RUN, **changes}).run("training"))


def without_curvature(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: Any, **__: Any) -> None:
        raise RuntimeError("[/alloc:7] no memory for the landscape\nand a second line")

    monkeypatch.setattr("optstudy.training.curvature.measure_curvature", measure)


def without_trace(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the tracker raise in the middle of a step, and from then on; the last 4 of 24 steps are tracked."""
    search, count = EigenTracker._search, itertools.count(20)

    def fails(self: EigenTracker, *arguments: Any, **options: Any) -> Any:
        if not self.preconditioned and next(count) >= step:
            raise RuntimeError("expected scalar type Double but found Float")
        return search(self, *arguments, **options)

    monkeypatch.setattr(EigenTracker, "_search", fails)


def outputs(run: Run) -> dict[str, str]:
    """Return what each command and format shows of the study."""
    commands = {
        "compare": ("compare",),
        "geometry": ("compare", "--metric", "geometry"),
        "csv": ("compare", "--metric", "geometry", "--format", "csv"),
        "latex": ("compare", "--format", "latex"),
        "json": ("compare", "--json"),
        "status": ("status",),
        "status as JSON": ("status", "--json"),
    }
    return {name: run(*words).out for name, words in commands.items()}


def test_a_run_without_its_curvature_keeps_its_accuracy_and_every_table_says_why(
    workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_curvature(monkeypatch)

    events = train(seeds=2)

    assert studies.texts(events, problem=True) == []
    assert len([event for event in events if isinstance(event, RunEnded)]) == 2
    found = studies.runs(workspace, "final")["sgd/default/seed-0"]
    assert found.data.tags["optstudy.curvature_problem"] == CURVATURE
    assert (found.info.status, found.data.tags["optstudy.outcome"]) == ("FINISHED", "completed")
    [row] = tiny.reopened_study().compare().rows
    assert row.seeds == 2
    assert row.geometry is None
    assert row.missing_curvature == {CURVATURE: 2}
    for name, shown in outputs(run).items():
        text = shown.replace("{[}", "[").replace("{]}", "]")  # as LaTeX shows brackets
        assert CURVATURE in " ".join(text.split()), name
    [status] = read_statuses(Location(workspace))
    assert (status.runs, status.missing_curvature) == (2, {CURVATURE: 2})


def test_a_rerun_measures_the_missing_curvature_and_trains_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        without_curvature(patch)
        train()
    rungs = studies.rung_times(workspace)

    train()

    assert studies.rung_times(workspace) == rungs
    [row] = tiny.reopened_study().compare().rows
    assert (row.geometry is not None, row.missing_curvature) == (True, {})
    assert studies.runs(workspace, "final")["sgd/default/seed-0"].data.metrics["final/lambda_1"] > 0


def test_a_run_whose_tracker_raises_ends_with_the_bits_of_one_without_it_and_lacks_its_whole_trace(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "net.py").write_text(tiny.NET.replace("nn.Tanh()", "nn.Dropout(0.3), nn.Tanh()"))
    without_trace(monkeypatch, step=22)

    events = train()
    list(tiny.study("plain", **{**ONE_RUN, "eigen_last": 0}).run("training"))

    [told] = [text for text in studies.texts(events) if "tracked" in text]
    assert told.startswith(
        f"the eigenvalues of tiny/sgd/default/seed-0 could not be tracked from step 22 on: {TRACE};"
    )
    assert studies.texts(events, problem=True) == []
    traced = studies.runs(workspace, "final")["sgd/default/seed-0"]
    plain = Location(workspace)
    final = {name: open_existing(plain).final_runs([name])[0][0] for name in ("tiny", "plain")}
    weights = [open_existing(plain).find_file(run, "weights.pt") for run in final.values()]
    assert weights[0] == weights[1]
    assert traced.data.tags["optstudy.trace_problem"] == TRACE
    assert "final/separated" not in traced.data.metrics  # a share of some steps would stand for all of them
    assert open_existing(plain).find_file(final["tiny"], "eigen.npz") is None
    assert final["tiny"].curvature is not None
    comparison = tiny.reopened_study().compare()
    assert comparison.rows[0].missing_trace == {TRACE: 1}
    assert f"last steps: {TRACE} (1 run)" in render(comparison, "markdown", "geometry")
    assert f"last steps: {TRACE} (1 run)" in render(comparison, "markdown")


def test_a_run_without_its_curvature_is_reproduced_without_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_curvature(monkeypatch)
    train()

    recorded = recorded_in_mlflow(open_existing(Location(workspace)), "tiny")
    [reproduction] = [
        event for event in reproduce(recorded, tiny.InProcessWorkers()) if isinstance(event, Reproduction)
    ]

    assert reproduction.judgement == "identical"


def test_a_run_whose_files_cannot_be_made_fails_in_one_line_and_the_next_command_finishes_it_untrained(
    workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*_: Any) -> None:
        raise ValueError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("optstudy.study.artifacts._data", draw)
        events = train(optimizers=("sgd", "adam"))

    assert sorted(studies.texts(events, problem=True)) == [
        "tiny/adam/default/seed-0 failed: ValueError: no room",
        "tiny/sgd/default/seed-0 failed: ValueError: no room",
    ]
    assert studies.runs(workspace, "final")["sgd/default/seed-0"].info.status == "FAILED"
    [status, _] = read_statuses(Location(workspace))
    assert (status.runs, status.failed_runs) == (0, {"ValueError: no room": 1})
    assert "ValueError: no room (1 final run)" in run("status").out

    rungs = studies.rung_times(workspace)
    assert studies.texts(train(optimizers=("sgd", "adam")), problem=True) == []
    assert rungs.items() <= studies.rung_times(workspace).items()
    found = studies.runs(workspace, "final")["sgd/default/seed-0"]
    assert (found.info.status, found.data.tags["optstudy.problem"]) == ("FINISHED", "")


OBJECTS = """
from pathlib import Path

import torch


class Scale:
    total = 0.0


class Mine(torch.optim.SGD):
    def step(self, closure=None):
        if Path("late").exists():
            for p in self.param_groups[0]["params"]:
                self.state[p]["scale"] = KEPT
        return super().step(closure)


class Unwritable(Scale):
    def __reduce__(self):
        raise TypeError("cannot be written")
"""


@pytest.mark.parametrize("kept", ["Scale()", "Unwritable()"])
def test_a_state_that_no_file_can_hold_fails_its_run_in_one_line_and_the_others_go_on(
    kept: str, workspace: Path
) -> None:
    (workspace / "objects.py").write_text(OBJECTS.replace("KEPT", kept))
    (workspace / "tuning" / "spaces" / "objects.toml").write_text(
        'optimizer = "objects.py:Mine"\n[search.lr]\nlow = 0.01\nhigh = 1.0\nlog = true\nwhy = "a first look"\n'
        "[default]\nlr = 0.1\n"
    )
    events: list[Any] = []

    for event in tiny.study(**{**ONE_RUN, "optimizers": ("objects", "sgd"), "samples": 0}).run("training"):
        if isinstance(event, StudyEstimate):  # the rehearsal has found nothing
            (workspace / "late").touch()
        events.append(event)

    [problem] = studies.texts(events, problem=True)
    assert problem.startswith("tiny/objects/default/seed-0 failed: ")
    assert "\n" not in problem
    assert [event.run for event in events if isinstance(event, RunEnded)] == ["sgd/default/seed-0"]


class TestFailedTrials:
    """The reason of failed trials."""

    def test_a_search_counts_trials_that_failed_for_one_reason_together_wherever_it_is_shown(
        self, finished: Path, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(finished)
        reason = "RuntimeError: no step in this mode"
        comparison = tiny.reopened_study().compare()
        failed = sum(trial.state == "failed" for trial in comparison.searches[1].trials)

        assert failed > 1
        assert comparison.searches[1].failures == {reason: failed}
        assert comparison.to_dict()["searches"][1]["failures"] == {reason: failed}
        for form in ("markdown", "csv", "latex"):
            assert f"{reason} ({failed} trials)" in render(comparison, form, "tuning")
        assert f"tiny, unreliable, failed: {reason} ({failed} trials)" in run("status").out
        statuses = json.loads(run("status", "--json").out)
        assert [status["failed_trials"] for status in statuses] == [{}, {reason: failed}]
        assert f"note: trial unreliable/000 failed: {reason}" in (finished / "errors.txt").read_text()

    def test_a_search_whose_every_trial_failed_says_why_in_the_table_and_in_its_run(
        self, workspace: Path, run: Run
    ) -> None:
        space = tiny.UNRELIABLE_SPACE.replace('choices = ["works", "raises"]', 'choices = ["raises_late"]')
        space = space.replace('mode = "works"', 'mode = "raises_late"').replace(
            'mode = "raises"', 'mode = "raises_late"'
        )
        (workspace / "tuning" / "spaces" / "late.toml").write_text(space)
        settings: dict[str, Any] = {"optimizers": ("late", "sgd"), "trials": 2, "rung_epochs": 3, "seeds": 1}

        events = list(tiny.study(**settings).run())

        reason = "RuntimeError: no step in this mode (2 trials)"
        [problem] = studies.texts(events, problem=True)
        assert f"no trial of late completed (failed: {reason}); check the ranges" in problem
        assert studies.runs(workspace, "tuning")["late"].data.tags["optstudy.problem"] == reason
        assert reason in render(tiny.reopened_study().compare(), "markdown", "tuning")
        assert run("report", "--output", "report").status == 0
        assert reason in (workspace / "report" / "index.html").read_text()
