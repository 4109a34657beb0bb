"""`optstudy curvature` prints what was measured, keeps it, and refuses in one line what cannot be."""

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from commands import Ended, Run
from rich.console import Console
from rich.progress import TaskID

from optstudy.cli.curvature_output import show_progress
from optstudy.cli.progress import progress_bar
from optstudy.execution.pool import WorkerPool
from optstudy.records.location import Location
from optstudy.training.curvature import CurvatureProgress
from optstudy.workloads.user_code import call

STUDY = ("sgd/seed-0", "sgd/seed-1", "unreliable/seed-0", "unreliable/seed-1")
CHECKPOINT = "curvature --checkpoint weights.pt --model net.py:make --dataset images.py:load"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process, since a worker takes seconds to start."""
    monkeypatch.setattr(WorkerPool, "workers", lambda *_, **__: tiny.InProcessWorkers())


@pytest.fixture
def checkpoint(user_files: Path) -> Path:
    torch.manual_seed(0)
    torch.save(call("net.py:make").state_dict(), "weights.pt")
    (user_files / "indices.txt").write_text("0\n7\n299\n")
    return user_files


def answer(ended: Ended) -> Any:
    assert ended.status == 0, ended.err
    return json.loads(ended.out, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


def test_json_of_a_run_is_one_object_with_the_names_that_others_rely_on(
    run: Run, finished_copy: Path
) -> None:
    found = answer(run("curvature", "tiny/sgd/seed-0", "--json"))

    wanted = {"eigenvalues", "residuals", "ratio", "products", "dtype", "samples", "loss", "gradient_norm"}
    assert wanted <= found.keys()
    assert found["ratio"].keys() == {"value", "low", "high", "verdict", "sign"}
    assert found["samples"] == 20  # of the run's own trace
    assert len(found["eigenvalues"]) == 2


def test_json_is_a_list_for_whatever_may_be_several(run: Run, finished_copy: Path) -> None:
    study = answer(run("curvature", "tiny", "--json"))
    points = answer(run("curvature", "tiny/sgd/seed-0", "--at", "end,start", "--json"))
    sizes = answer(run("curvature", "tiny/sgd/seed-0", "--sweep", "all", "--json"))

    assert sorted(one["run"] for one in study) == [f"tiny/{name}" for name in STUDY]
    assert [one["at"] for one in points] == ["end", "start"]
    assert [one["samples"] for one in sizes] == [300]


def test_a_run_measured_again_gives_what_it_logged(run: Run, finished_copy: Path) -> None:
    from mlflow import MlflowClient

    from optstudy.posthoc.find_runs import find_runs
    from optstudy.tracking import embedded, open_tracking

    [known] = find_runs(open_tracking(Location(finished_copy))[0], "tiny/sgd/seed-0")
    metrics = MlflowClient(embedded.uri(finished_copy)).get_run(known.run_id).data.metrics

    found = answer(run("curvature", known.run_id[:16], "--json"))

    assert found["eigenvalues"] == pytest.approx([metrics["final/lambda_1"], metrics["final/lambda_2"]])
    assert found["ratio"]["low"] == pytest.approx(metrics["final/ratio_low"])


def test_the_table_names_the_run_and_all_that_was_measured(run: Run, finished_copy: Path) -> None:
    ended = run("curvature", "tiny/sgd/seed-0", "-k", "3", "--density", "--landscape")

    assert ended.status == 0
    assert "tiny/sgd/seed-0" in ended.out
    assert len(re.findall("±", ended.out.split("\n± is")[0])) == 3
    assert re.search(r"tiny/sgd/seed-0 at its end: trace .*\]; the loss rises by", ended.out)
    assert "measured tiny/sgd/seed-0 at its end on 20 examples" in ended.err
    assert ended.err.splitlines()[-1] == "next: optstudy compare --study tiny"


def test_a_terminal_shows_how_far_each_measurement_is() -> None:
    shown = io.StringIO()
    lines: dict[tuple[str, str, int], TaskID] = {}

    with progress_bar(Console(file=shown, force_terminal=True, width=100)) as bar:
        for event in (
            CurvatureProgress("eigenvalues", 12, None, "tiny/sgd/seed-0"),
            CurvatureProgress("spectrum", 50, 200, "tiny/sgd/seed-0"),
            CurvatureProgress("spectrum", 20, 200, "tiny/sgd/seed-1"),
        ):
            show_progress(bar, lines, event)
            bar.refresh()
        assert len(bar.tasks) == 2

    assert re.search(r"tiny/sgd/seed-0 at its end: eigenvalues", shown.getvalue())
    assert re.search(r"tiny/sgd/seed-0 at its end: spectrum .* 25%", shown.getvalue())
    assert re.search(r"tiny/sgd/seed-1 at its end: spectrum .* 10%", shown.getvalue())


def test_a_sweep_is_a_table_by_size(run: Run, finished_copy: Path) -> None:
    ended = run("curvature", "tiny/sgd/seed-0", "--sweep", "5,50,all", "--draws", "2", "--quiet")

    rows = [line.split() for line in ended.out.splitlines() if line.strip().startswith("tiny/")]
    assert [(row[2], row[3]) for row in rows] == [("5", "2"), ("50", "2"), ("300", "1")]
    assert ended.err == ""


def test_figures_and_data_are_kept_and_never_overwritten(run: Run, finished_copy: Path) -> None:
    arguments = (
        "curvature",
        "tiny/sgd/seed-0",
        "--density",
        "--landscape",
        "--json",
        "--output",
        "new/folder",
    )
    first = run(*arguments)
    kept = {path.name: path.read_bytes() for path in Path("new/folder").iterdir()}

    again = run(*arguments)

    assert json.loads(kept["curvature.json"]) == answer(first)
    assert set(kept) == {
        "curvature.json", "analysis.npz", "spectrum.png", "landscape_1d.png", "landscape_2d.png"
    }  # fmt: skip
    assert again.status == 2
    assert again.line == "optstudy: new/folder/curvature.json already exists; give another --output"
    assert {path.name: path.read_bytes() for path in Path("new/folder").iterdir()} == kept


def test_a_file_of_the_users_own_is_not_overwritten_either(run: Run, finished_copy: Path) -> None:
    Path("mine").mkdir()
    Path("mine/spectrum.png").write_text("mine")

    ended = run("curvature", "tiny/sgd/seed-0", "--density", "--output", "mine")

    assert ended.status == 2
    assert ended.err.splitlines()[-1] == "optstudy: mine/spectrum.png already exists; give another --output"
    assert [path.read_text() for path in Path("mine").iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written_is_found_out_first(run: Run, finished_copy: Path) -> None:
    ended = run("curvature", "tiny/sgd/seed-0", "--output", "net.py/folder")

    assert ended.status == 1
    assert ended.line.startswith("optstudy: cannot write net.py/folder: ")


def test_a_checkpoint_is_measured_on_100_images_or_those_asked_for(run: Run, checkpoint: Path) -> None:
    own, all_of_them, listed = (
        answer(run(*f"{CHECKPOINT} --json {more}".split()))
        for more in ("", "--samples all --dtype float64", "--indices indices.txt -k 1")
    )

    assert [one["samples"] for one in (own, all_of_them, listed)] == [100, 300, 3]
    assert [one["dtype"] for one in (own, all_of_them)] == ["float32", "float64"]
    assert "ratio" not in listed
    assert all(math.isfinite(value) for value in own["eigenvalues"])
    assert own["run"] == "weights.pt"


def test_a_checkpoint_with_other_names_loads_with_a_notice_on_standard_error(
    run: Run, checkpoint: Path
) -> None:
    weights = torch.load("weights.pt", weights_only=True)
    torch.save({f"module.{name}": value for name, value in weights.items()}, "weights.pt")

    ended = run(*CHECKPOINT.split(), "--json", "--quiet")

    assert answer(ended)["samples"] == 100
    assert ended.err.startswith("note: weights.pt: different names (module.1.weight for 1.weight)")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("curvature", "give either a run or study, or --checkpoint FILE"),
        (
            "curvature tiny --checkpoint weights.pt",
            "give either a run or study, or --checkpoint FILE",
        ),
        ("curvature tiny", "no study has run in "),
        ("curvature tiny --samples 0", "Invalid value for '--samples': 0 is not in the range x>=1."),
        ("curvature tiny --samples -4", "Invalid value for '--samples': -4 is not in the range x>=1."),
        (
            "curvature tiny --samples few",
            "Invalid value for '--samples': 'few' is neither a whole number nor all.",
        ),
        ("curvature tiny --sweep 5,x", "Invalid value for '--sweep': 'x' is neither a whole number nor all."),
        ("curvature tiny --sweep 5 --draws 0", "Invalid value for '--draws': 0 is not in the range x>=1."),
        (
            "curvature tiny --at dawn",
            "Invalid value for '--at': 'dawn' is not one of 'start', 'middle', 'end'.",
        ),
        ("curvature tiny --dtype float16", "Invalid value for '--dtype': 'float16' is not one of"),
        ("curvature tiny -k 0", "Invalid value for '-k': 0 is not in the range 1<=x<=100."),
        ("curvature tiny --output net.py", "Invalid value for '--output': Directory 'net.py' is a file."),
        ("curvature --checkpoint tuning", "Invalid value for '--checkpoint': File 'tuning' is a directory."),
        ("curvature --checkpoint absent.pt", "absent.pt: no such file; give a file written by torch.save"),
        (
            "curvature --checkpoint weights.pt",
            "weights.pt: 1.weight has shape (16, 64), where the model has conv1.",
        ),
        ("curvature --checkpoint weights.pt --model lenet", "model 'lenet' is not known"),
        (f"{CHECKPOINT} --at start", "--at goes with runs; a checkpoint has no start or middle"),
        (f"{CHECKPOINT} --device cuda:63", "device 'cuda:63' is not available; the available ones are cpu"),
        (
            f"{CHECKPOINT} --samples 5 --indices indices.txt",
            "--samples, --indices and --sweep exclude each other",
        ),
        (f"{CHECKPOINT} --indices absent.txt", "absent.txt: cannot be read (No such file or directory)"),
        (
            f"{CHECKPOINT} --indices net.py",
            "net.py, line 2: 'from torch import nn' is not an example index; write one whole",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: str, said: str, run: Run, checkpoint: Path) -> None:
    ended = run(*arguments.split())

    assert ended.status == 2
    assert ended.line.startswith(f"optstudy: {said}")
    assert not (checkpoint / "mlruns").exists()


def test_a_file_without_weights_is_wrong_usage(run: Run, checkpoint: Path) -> None:
    Path("weights.pt").write_bytes(b"no weights" * 100)

    ended = run(*CHECKPOINT.split())

    assert ended.status == 2
    assert ended.line.startswith("optstudy: weights.pt: not a file of weights only; write one by ")


def test_an_example_that_is_named_twice_counts_twice_and_a_notice_says_so(run: Run, checkpoint: Path) -> None:
    def of(*indices: str) -> Ended:
        (checkpoint / "some.txt").write_text("\n".join(indices))
        return run(*f"{CHECKPOINT} --indices some.txt --json".split())

    first, second, both = of("0"), of("7"), of("0", "7", "7")

    losses = [answer(ended)["loss"] for ended in (first, second, both)]
    assert losses[2] == pytest.approx((losses[0] + 2 * losses[1]) / 3, rel=1e-6)
    assert answer(both)["samples"] == 3
    assert "note: some.txt names 1 example more than once; it counts as often as named" in both.err
    assert "more than once" not in first.err
