"""A change of a source file that the user accepts costs no finished run, and every table names both versions."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny
from commands import Run
from mlflow import MlflowClient

from optstudy.errors import UsageError
from optstudy.posthoc.reproduce.recorded import recorded_in_mlflow
from optstudy.posthoc.reproduce.rerun import Reproduction, reproduce
from optstudy.records.location import Location
from optstudy.study.accepted import accepted_hashes
from optstudy.study.driver import Study
from optstudy.study.events import Event, TrialEnded, WorkDone
from optstudy.study.workspace import ChangedStudyError, read_recorded
from optstudy.tracking import embedded, open_existing

LOSS = """
from torch.nn.functional import cross_entropy


def loss(outputs, targets):
    return cross_entropy(outputs, targets)
"""
SETTINGS: dict[str, Any] = {"loss": "loss.py:loss", "seeds": 1, "train_epochs": 1, "tune_epochs": 2}


@pytest.fixture
def begun(workspace: Path) -> Path:
    """A workspace with a loss of the user's own."""
    (workspace / "loss.py").write_text(LOSS)
    return workspace


def study(**changes: Any) -> Study:
    return tiny.study(**{**SETTINGS, **changes})


def mend(workspace: Path, comment: str = "mended") -> None:
    """Change the file, but no number."""
    with (workspace / "loss.py").open("a") as file:
        file.write(f"# {comment}\n")


def digest(workspace: Path) -> str:
    return hashlib.sha256((workspace / "loss.py").read_bytes()).hexdigest()


def hashes(workspace: Path, kind: str) -> dict[str, str]:
    """Return the hash of the loss with which each run in use was computed, by its name."""
    client = MlflowClient(embedded.uri(workspace))
    experiment = client.get_experiment_by_name(f"tiny/{kind}")
    assert experiment is not None
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        name, tags = run.info.run_name, run.data.tags
        if "/" in name and tags.get("optstudy.superseded") != "true":
            assert name not in found
            found[name] = json.loads(tags["optstudy.sources"])["loss.py"]
    return found


def stop(running: Iterator[Event], *, after: int) -> None:
    """Stop a study in the first new rung after a number of trials."""
    ended = 0
    for event in running:
        ended += isinstance(event, TrialEnded)
        if ended == after and isinstance(event, WorkDone) and event.record and not event.already_done:
            running.close()  # type: ignore[attr-defined]
            return


def numbers(name: str) -> list[Any]:
    """Return the scores of a study's search and the accuracies of its final runs."""
    comparison = tiny.reopened_study(name).compare()
    scores = [trial.scores for search in comparison.searches for trial in search.trials]
    return [*scores, *((row.seeds, row.test_accuracy) for row in comparison.rows)]


def test_finished_runs_keep_their_hash_and_later_runs_get_the_new_one(begun: Path, run: Run) -> None:
    list(study().run())
    rungs, before = studies.rung_times(begun), digest(begun)
    mend(begun)

    with pytest.raises(
        ChangedStudyError, match=r"give --accept-source loss\.py .*they keep the hash.*"
    ) as raised:
        list(study(seeds=2).run())
    list(study(seeds=2).run(accept_sources=["./loss.py"]))

    assert "was started with a different loss.py; its results would not be comparable" in str(raised.value)
    after = studies.rung_times(begun)
    assert {name: after[name] for name in rungs} == rungs  # nothing is repeated
    assert len(after) == len(rungs) + 1
    assert set(hashes(begun, "tuning").values()) == {before}
    assert hashes(begun, "final") == {"sgd/seed-0": before, "sgd/seed-1": digest(begun)}

    events = list(study(seeds=2).run())  # without the option

    assert studies.texts(events) == []
    assert studies.rung_times(begun) == after
    assert tiny.reopened_study().compare().excluded == {}


def test_every_table_names_both_versions_with_their_runs(begun: Path, run: Run) -> None:
    list(study().run())
    before = digest(begun)
    mend(begun)
    list(study(seeds=2).run(accept_sources=["loss.py"]))
    now = digest(begun)

    label = f"{before[:12]} (4 trials, 1 final run), {now[:12]} (1 final run)"
    for words in (("compare",), ("compare", "--metric", "tuning"), ("compare", "--format", "markdown")):
        assert label in " ".join(run(*words).out.split())
    document = json.loads(run("compare", "--json").out)
    assert document["sources"] == [
        {"study": "tiny", "file": "loss.py", "hash": before, "trials": 4, "runs": 1},
        {"study": "tiny", "file": "loss.py", "hash": now, "trials": 0, "runs": 1},
    ]
    assert f"tiny, accepted change of loss.py: {before[:12]} before, {now[:12]} now" in run("status").out
    assert json.loads(run("status", "--json").out)[0]["accepted_sources"] == {"loss.py": [before, now]}
    assert run("report", "--output", "report").status == 0
    page = (begun / "report" / "index.html").read_text()
    assert "loss.py of tiny" in page
    assert label in page

    recorded = recorded_in_mlflow(open_existing(Location(begun)), "tiny")
    events = reproduce(recorded, tiny.InProcessWorkers())
    found = {event.name: event for event in events if isinstance(event, Reproduction)}
    assert found["tiny/sgd/seed-0"].differing["loss.py"] == (before[:16], now[:16])
    assert "loss.py" not in found["tiny/sgd/seed-1"].differing
    assert {one.judgement for one in found.values()} == {"identical"}


def test_a_search_killed_before_and_after_the_change_goes_on_to_the_same_numbers(begun: Path) -> None:
    list(tiny.study("whole", **SETTINGS).run())
    stop(study().run(), after=2)
    before, rungs = digest(begun), studies.rung_times(begun)
    mend(begun)
    stop(study().run(accept_sources=["loss.py"]), after=2)
    assert len(studies.rung_times(begun)) > len(rungs)

    list(study().run())

    found = hashes(begun, "tuning")
    assert [found[f"sgd/{number:03d}"] == before for number in range(4)] == [True, True, False, False]
    assert hashes(begun, "final") == {"sgd/seed-0": digest(begun)}
    assert numbers("tiny") == numbers("whole")
    after = studies.rung_times(begun)
    assert {name: after[name] for name in rungs} == rungs


def test_a_second_change_is_refused_until_it_is_accepted_and_each_run_keeps_its_own_hash(begun: Path) -> None:
    versions = []
    for seeds in (1, 2, 3):
        if seeds > 1:
            mend(begun, f"version {seeds}")
            with pytest.raises(ChangedStudyError, match=r"a different loss\.py"):
                list(study(seeds=seeds).run())
        versions.append(digest(begun))
        list(study(seeds=seeds).run(accept_sources=["loss.py"] * (seeds > 1)))
    rungs = studies.rung_times(begun)

    list(study(seeds=3).run())

    assert hashes(begun, "final") == {f"sgd/seed-{seed}": versions[seed] for seed in range(3)}
    assert studies.rung_times(begun) == rungs


def test_a_final_run_without_its_curvature_is_trained_with_the_mended_file(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any, **__: Any) -> None:
        raise RuntimeError("expected scalar type Double but found Float")

    settings: dict[str, Any] = {"samples": 20, "eigen_last": 0}
    with monkeypatch.context() as patch:
        patch.setattr("optstudy.training.curvature.measure_curvature", measure)
        list(study(**settings).run())
    mend(begun)

    events = list(study(**settings).run(accept_sources=["loss.py"]))

    told = "sgd: the best configuration or an accepted source file has changed; 1 older runs are excluded from tables"
    assert studies.texts(events) == [told]
    [row] = tiny.reopened_study().compare().rows
    assert (row.seeds, row.missing_curvature, row.geometry is not None) == (1, {}, True)


def test_hashes_are_listed_in_the_order_of_their_acceptance_also_after_a_return_to_the_first() -> None:
    versions: list[dict[str, Any]] = [
        {"net.py:make": {"net.py": digest, "width.py": "w"}, "cross_entropy": {}}
        for digest in ("a", "b", "b", "a")
    ]
    accepted = [{"sources": version, "keys": []} for version in versions[:-1]]

    assert accepted_hashes({"sources": versions[-1], "accepted": accepted}) == {"net.py": ["a", "b", "a"]}
    assert accepted_hashes({"sources": versions[-1]}) == {}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "los.py",
            r"--accept-source los\.py: study 'tiny' has no such source file \(did you mean 'loss\.py'\?\);",
        ),
        ("unreliable.py", r"its files are images\.py, loss\.py, net\.py$"),
        ("loss.py", "the file is as study 'tiny' has recorded it; leave out the option$"),
    ],
)
def test_what_cannot_be_accepted_is_refused(path: str, said: str, begun: Path) -> None:
    with pytest.raises(UsageError, match="study 'tiny' has not begun; leave out --accept-source"):
        list(study().run("training", configs=["default"], accept_sources=[path]))
    list(study().run("training", configs=["default"]))

    with pytest.raises(UsageError, match=said):
        list(study().run("training", configs=["default"], accept_sources=[path]))


def test_a_change_of_two_files_names_both_and_one_alone_is_not_accepted(begun: Path) -> None:
    list(study().run("training", configs=["default"]))
    mend(begun)
    (begun / "scale.py").write_text("ONE = 1.0\n")
    (begun / "loss.py").write_text("from scale import ONE\n" + LOSS)

    with pytest.raises(
        ChangedStudyError, match=r"give --accept-source loss\.py --accept-source scale\.py \("
    ):
        list(study().run("training", configs=["default"]))
    with pytest.raises(ChangedStudyError, match=r"a different scale\.py"):
        list(study().run("training", configs=["default"], accept_sources=["loss.py"]))
    list(study(seeds=2).run("training", configs=["default"], accept_sources=["loss.py", "scale.py"]))

    assert len(set(hashes(begun, "final").values())) == 2


def test_the_command_line_accepts_a_file_and_a_refused_one_changes_nothing(begun: Path, run: Run) -> None:
    list(study().run("training", configs=["default"]))
    recorded = read_recorded(study().files)
    mend(begun)

    refused = run("train", "--study", "tiny", "--config", "default", "--seeds", "2", "--jobs", "1")

    assert refused.status == 2
    assert "--accept-source loss.py" in refused.err
    assert read_recorded(study().files) == recorded
