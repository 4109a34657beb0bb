"""How fast each row steps is timed once, alone, on the run's own steps, and seconds are told at that pace."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import studies
import tiny
import torch
from finals import comparison_of, final_run

from optstudy.comparison.summaries import summarise_target
from optstudy.records.plan import Method, Plan
from optstudy.records.run import CostToTarget
from optstudy.study import timing as study_timing
from optstudy.study.events import Notice
from optstudy.study.run_cache import Pace, RunCache
from optstudy.training import advance, start, time_steps, timing
from optstudy.workloads.user_code import load_object

# Counts its steps, and remembers where each of them began.
COUNTING = """
import torch


class Counting(torch.optim.SGD):
    seen = []

    def step(self, closure=None):
        self.seen.append(sum(float(p.detach().sum()) for group in self.param_groups for p in group["params"]))
        if closure is not None:
            parameters = [p for group in self.param_groups for p in group["params"]]
            for p, slope in zip(parameters, torch.autograd.grad(closure(), parameters)):
                p.grad = slope
        super().step()
"""
COUNTED = Method("counting.py:Counting", {"lr": 0.1})
STEP_NEEDS = pytest.mark.parametrize("needs", ["", "closure"])


@pytest.fixture
def project(tmp_path: Path) -> Iterator[None]:
    with cases.project(tmp_path):
        (tmp_path / "counting.py").write_text(COUNTING)
        yield


def counted(needs: str = "") -> tuple[Plan, list[float]]:
    """Return a plan, and the list that its optimizer fills."""
    plan = cases.plan(method=replace(COUNTED, needs=needs))
    seen: list[float] = load_object("counting.py:Counting").seen
    seen.clear()
    return plan, seen


@STEP_NEEDS
def test_the_steps_are_those_of_the_run_itself(needs: str, project: None) -> None:
    plan, seen = counted(needs)
    advance(start(plan), plan, 2)
    own = seen.copy()
    seen.clear()

    time_steps(plan, 20)

    assert len(own) == 8
    assert seen[:8] == own  # to the bit, dropout's draws included


@STEP_NEEDS
def test_as_many_steps_count_as_were_asked_for_after_a_few_that_do_not(
    needs: str, project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a second a step, and by a minute before the steps that count."""
    plan, seen = counted(needs)
    monkeypatch.setattr(time, "perf_counter", lambda: len(seen) + 60.0 * (len(seen) >= timing.WARMUP_STEPS))

    seconds = time_steps(plan, 30)

    assert len(seen) == timing.WARMUP_STEPS + 30
    assert seconds == 1.0


def test_nothing_that_the_caller_has_is_moved(project: None) -> None:
    plan, _ = counted()
    torch.manual_seed(3)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(plan.threads + 1)
    try:
        time_steps(plan, 5)

        assert torch.get_num_threads() == plan.threads + 1
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


def test_a_run_that_is_lost_at_once_is_timed_all_the_same(project: None) -> None:
    assert time_steps(cases.plan(model="net.py:Lost"), 5) > 0


class TestTable:
    """What the comparison makes of it."""

    def test_seconds_are_the_steps_at_their_pace(self) -> None:
        runs = [
            replace(final_run(seed=seed, seconds=99.0), steps=steps, step_seconds=0.01)
            for seed, steps in enumerate((600, 1200))
        ]

        [row] = comparison_of(*runs).rows

        assert row.seconds == pytest.approx(9.0)
        assert row.step_seconds == pytest.approx(0.01)

    def test_a_run_without_timed_steps_keeps_its_clock(self) -> None:
        timed = replace(final_run("adam", seconds=99.0), steps=600, step_seconds=0.01)
        untimed = replace(final_run("sgd", seconds=42.0), steps=600)

        rows = {row.optimizer: row for row in comparison_of(timed, untimed).rows}

        assert (rows["sgd"].seconds, rows["sgd"].step_seconds) == (42.0, None)
        assert rows["adam"].seconds == pytest.approx(6.0)

    def test_the_time_to_the_target_is_told_at_the_same_pace(self) -> None:
        run = replace(
            final_run(seconds=99.0, work=1200.0),
            target=0.97,
            cost_to_target=CostToTarget(2.0, 50.0, 300.0),
            steps=600,
        )

        by_clock, at_pace = summarise_target([run]), summarise_target([replace(run, step_seconds=0.01)])

        assert by_clock is not None
        assert at_pace is not None
        assert by_clock.seconds == 50.0
        assert at_pace.seconds == pytest.approx(1.5)  # a quarter of 600 steps


def final_metrics(workspace: Path) -> dict[str, dict[str, float]]:
    return {name: run.data.metrics for name, run in studies.runs(workspace, "final").items()}


def kept_paces(workspace: Path) -> dict[Path, Pace]:
    folder = workspace / "tuning" / "studies" / "tiny" / "rungs"
    found = {path: RunCache(folder).pace(path.parent.name).content for path in folder.glob("*/pace.json")}
    return {path: pace for path, pace in found.items() if pace is not None}


def never(*_: object) -> float:
    raise AssertionError("the steps are timed again")


class TestStudy:
    """A whole study times its rows when all else is done."""

    def test_every_run_of_a_row_has_the_rows_pace_and_its_own_steps(self, retrained: Path) -> None:
        found = final_metrics(retrained)

        assert {name: metrics["final/steps"] for name, metrics in found.items()} == dict.fromkeys(
            ("sgd/seed-0", "sgd/seed-1", "unreliable/seed-0", "unreliable/seed-1"), 2 * 12
        )
        for optimizer in ("sgd", "unreliable"):
            first, second = (found[f"{optimizer}/seed-{seed}"]["final/step_seconds"] for seed in (0, 1))
            assert first == second > 0
        assert {one.step_seconds for one in kept_paces(retrained).values()} == {
            metrics["final/step_seconds"] for metrics in found.values()
        }

    def test_the_comparison_tells_seconds_at_that_pace(self, retrained_copy: Path) -> None:
        found = final_metrics(retrained_copy)

        for row in tiny.reopened_study().compare().rows:
            step = found[f"{row.optimizer}/seed-0"]["final/step_seconds"]
            assert row.step_seconds == pytest.approx(step)
            assert row.seconds == pytest.approx(24 * step)

    def test_a_seed_added_later_has_the_pace_of_its_row_which_is_not_timed_again(
        self, retrained_copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = kept_paces(retrained_copy)
        monkeypatch.setattr(study_timing, "_time_plan", never)

        list(tiny.reopened_study().run("training", optimizers=["sgd"], seeds=3))

        found = final_metrics(retrained_copy)
        paces = {found[f"sgd/seed-{seed}"]["final/step_seconds"] for seed in range(3)}
        assert len(paces) == 1
        assert paces <= {one.step_seconds for one in before.values()}
        assert kept_paces(retrained_copy) == before

    def test_runs_that_another_machine_has_timed_keep_its_pace(
        self, retrained_copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = final_metrics(retrained_copy)
        for path in kept_paces(retrained_copy):
            path.unlink()
        monkeypatch.setattr(study_timing, "_time_plan", never)

        list(tiny.reopened_study().run("training"))

        assert final_metrics(retrained_copy) == before

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"step_seconds": 1.0}', b"\xff"])
    def test_a_damaged_pace_is_timed_again(
        self, content: bytes, retrained_copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(study_timing, "TIMED_STEPS", 7)  # told apart from those before
        before = final_metrics(retrained_copy)
        damaged = next(path for path, one in kept_paces(retrained_copy).items() if _is_of_sgd(one, before))
        damaged.write_bytes(content)

        list(tiny.reopened_study().run("training", optimizers=["sgd"]))

        again = kept_paces(retrained_copy)[damaged]
        assert again.steps == 7
        after = final_metrics(retrained_copy)
        for seed in (0, 1):
            assert after[f"sgd/seed-{seed}"]["final/step_seconds"] == again.step_seconds
            assert after[f"unreliable/seed-{seed}"] == before[f"unreliable/seed-{seed}"]

    def test_a_study_killed_between_keeping_a_pace_and_logging_it_logs_it_at_the_next_start(
        self, retrained_copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = RunCache.write_pace

        def killed(*arguments: Any) -> None:
            write(*arguments)
            raise KeyboardInterrupt

        settings: dict[str, Any] = {"optimizers": ["sgd"], "configs": ["default"], "seeds": 2}
        with monkeypatch.context() as patch:
            patch.setattr(RunCache, "write_pace", killed)
            with pytest.raises(KeyboardInterrupt):
                list(tiny.reopened_study().run("training", **settings))
        assert "final/step_seconds" not in final_metrics(retrained_copy)["sgd/default/seed-0"]
        monkeypatch.setattr(study_timing, "_time_plan", never)

        list(tiny.reopened_study().run("training", **settings))

        logged = {
            final_metrics(retrained_copy)[f"sgd/default/seed-{seed}"]["final/step_seconds"] for seed in (0, 1)
        }
        assert len(logged) == 1
        assert logged <= {one.step_seconds for one in kept_paces(retrained_copy).values()}


def _is_of_sgd(one: Pace, metrics: dict[str, dict[str, float]]) -> bool:
    return one.step_seconds == metrics["sgd/seed-0"]["final/step_seconds"]


def test_a_row_whose_steps_cannot_be_timed_is_told_and_keeps_its_clock(workspace: Path) -> None:
    space = tiny.UNRELIABLE_SPACE.replace('"raises"]', '"raises_late"]').replace('"raises"', '"raises_late"')
    space = space.replace('"works"\n\n[paper]', '"raises_late"\n\n[paper]')  # works for one epoch of 12 steps
    (workspace / "tuning" / "spaces" / "raises_late.toml").write_text(space)
    settings: dict[str, Any] = {"optimizers": ("raises_late",), "configs": ("default",), "seeds": 1}

    events = list(tiny.study(**settings, train_epochs=1).run("training"))

    assert [event.text for event in events if isinstance(event, Notice)][-1] == (
        "the steps of raises_late, config default, could not be timed: RuntimeError: no step in this mode"
    )
    [row] = tiny.reopened_study().compare().rows
    assert row.step_seconds is None
    assert row.seconds == final_metrics(workspace)["raises_late/default/seed-0"]["final/seconds"] > 0
    assert np.isfinite(row.seconds)
