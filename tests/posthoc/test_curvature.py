"""What is asked of curvature, refused where it makes no sense, and answered."""

from pathlib import Path
from typing import Any

import pytest
import tiny
from mlflow import MlflowClient

from optstudy.errors import UsageError
from optstudy.execution.pool import WorkerPool
from optstudy.posthoc.curvature import draw_results, measure_request
from optstudy.posthoc.find_runs import find_runs
from optstudy.posthoc.request import CurvatureRequest
from optstudy.records.checksums import RunContent
from optstudy.records.curvature import CurvatureResult
from optstudy.records.location import Location
from optstudy.records.look import Looks
from optstudy.study.events import Notice
from optstudy.tracking import embedded, open_tracking


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process, since a worker takes seconds to start."""
    monkeypatch.setattr(WorkerPool, "workers", lambda *_, **__: tiny.InProcessWorkers())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "give either a run or study, or --checkpoint FILE"),
        (
            {"target": "tiny", "checkpoint": Path("w.pt")},
            "give either a run or study, or --checkpoint FILE",
        ),
        ({"target": "tiny", "model": "lenet5"}, "--model goes with --checkpoint; a run records its own"),
        ({"target": "tiny", "loss": "l.py:l"}, "--loss goes with --checkpoint; a run records its own"),
        (
            {"checkpoint": Path("w.pt"), "at": ("start",)},
            "--at goes with runs; a checkpoint has no start or middle",
        ),
        (
            {"target": "tiny", "samples": 3, "sweep": (5,)},
            "--samples, --indices and --sweep exclude each other",
        ),
        (
            {"target": "tiny", "samples": 3, "indices": Path("i")},
            "--samples, --indices and --sweep exclude each other",
        ),
        ({"target": "tiny", "draws": 2}, "--draws goes with --sweep"),
        (
            {"target": "tiny", "sweep": (5,), "density": True},
            "--density and --landscape go with one sample, not with --sweep",
        ),
        (
            {"target": "tiny", "sweep": (5,), "k": 1},
            "-k is 1; a sweep compares two eigenvalues, so give 2 or more",
        ),
        ({"target": "tiny", "at": ("dusk",)}, "--at has 'dusk'; it takes start, middle, end"),
    ],
)
def test_options_that_do_not_go_together_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        CurvatureRequest(**asked)

    assert str(raised.value) == said


def answers(**asked: Any) -> tuple[list[CurvatureResult], list[str]]:
    events = list(measure_request(CurvatureRequest(**asked), Location(), WorkerPool()))
    results = [event for event in events if isinstance(event, CurvatureResult)]
    return results, [event.text for event in events if isinstance(event, Notice)]


def mark_diverged(workspace: Path, *names: str) -> None:
    tracking, client = open_tracking(Location(workspace))[0], MlflowClient(embedded.uri(workspace))
    for name in names:
        [run] = find_runs(tracking, name)
        client.set_tag(run.run_id, "optstudy.outcome", "diverged")
        data = client.get_run(run.run_id).data
        content = RunContent(data.metrics, data.params, data.tags, dict(run.checksums or {}))
        client.set_tag(run.run_id, "optstudy.checksums", content.checksums().to_tag())


def test_a_study_is_measured_at_every_point_of_every_run(finished_copy: Path) -> None:
    found, notices = answers(target="tiny", at=("start", "end"))

    assert len(found) == 8
    assert len({(one.run, one.at) for one in found}) == 8
    assert notices == []
    start, end = ([one for one in found if one.at == at] for at in ("start", "end"))
    assert min(one.loss for one in start) > min(one.loss for one in end)


def test_diverged_runs_are_left_out_and_named(finished_copy: Path) -> None:
    mark_diverged(finished_copy, "tiny/sgd/seed-0")

    found, notices = answers(target="tiny")

    assert {one.run for one in found} == {
        "tiny/sgd/seed-1",
        "tiny/unreliable/seed-0",
        "tiny/unreliable/seed-1",
    }
    assert notices == ["tiny/sgd/seed-0 diverged, and has no curvature at its end"]


def test_a_diverged_run_alone_is_refused_but_for_its_start(finished_copy: Path) -> None:
    mark_diverged(finished_copy, "tiny/sgd/seed-0")

    with pytest.raises(
        UsageError, match="^tiny/sgd/seed-0 diverged, .* its end; --at start measures the initial weights$"
    ):
        answers(target="tiny/sgd/seed-0")
    assert len(answers(target="tiny/sgd/seed-0", at=("start",))[0]) == 1


def test_a_device_that_is_not_here_is_refused_before_anything_starts(finished_copy: Path) -> None:
    with pytest.raises(UsageError, match="^device 'cuda:77' is not available; the available ones are cpu"):
        answers(target="tiny", device="cuda:77")


def test_files_of_several_runs_and_points_have_names_of_their_own(finished_copy: Path) -> None:
    both: dict[str, Any] = {"target": "tiny/sgd/seed-0", "density": True, "landscape": True}
    points = {**both, "at": ("start", "end")}
    one, several = answers(**both)[0], answers(**points)[0]
    names = {"analysis.npz", "spectrum.png", "landscape_1d.png", "landscape_2d.png"}

    assert set(draw_results(one, CurvatureRequest(**both), Looks())) == names
    assert set(draw_results(one, CurvatureRequest(**{**both, "landscape": False}), Looks())) == {
        "analysis.npz",
        "spectrum.png",
    }
    assert set(draw_results(several, CurvatureRequest(**points), Looks())) == {
        f"tiny-sgd-seed-0-{at}-{name}" for at in ("start", "end") for name in names
    }


def test_how_much_is_measured_is_told_before_the_first_result(finished_copy: Path) -> None:
    request = CurvatureRequest(target="tiny/sgd", sweep=(5, "all"), draws=2)

    sizes, *results = measure_request(request, Location(), WorkerPool())

    assert sizes == [5, 5, 300] * 2
    assert isinstance(results[0], CurvatureResult)
    assert len(results) == len(sizes)


def test_a_sweep_is_several_draws_of_each_size_and_one_figure(finished_copy: Path) -> None:
    asked: dict[str, Any] = {"target": "tiny/sgd/seed-0", "sweep": (5, 10, 500, "all"), "draws": 2}
    found, notices = answers(**asked)

    assert sorted(one.samples for one in found) == [5, 5, 10, 10, 300]
    assert notices == ["there are 300 training examples; a larger sample uses all of them"]
    assert set(draw_results(found, CurvatureRequest(**asked), Looks())) == {"sweep.png"}
