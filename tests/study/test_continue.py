"""A study that runs again: what it computes, and what it leaves as it was."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny
from mlflow import MlflowClient

from optstudy.errors import UsageError
from optstudy.records.search import SearchResult
from optstudy.study.driver import Study
from optstudy.study.events import RunEnded, TrialEnded, WorkDone
from optstudy.study.run_cache import RunCache
from optstudy.study.workspace import read_recorded
from optstudy.tracking import embedded
from optstudy.tracking.connection import Connection


class TestAgain:
    """What a study does when it is run again."""

    def test_it_computes_nothing_and_writes_nothing_anew(self, finished_copy: Path) -> None:
        before, kept = studies.rung_times(finished_copy), studies.best(finished_copy, "sgd")
        study = tiny.study(**tiny.WHOLE)
        first = study.compare()
        metrics = {name: run.data.metrics for name, run in studies.runs(finished_copy, "final").items()}

        events = list(study.run())

        assert studies.texts(events, problem=True) == []
        assert "the workspace was moved from" not in studies.texts(events)  # compare() mended it already
        assert studies.rung_times(finished_copy) == before
        assert studies.best(finished_copy, "sgd") == kept
        assert study.compare() == first
        assert {
            name: run.data.metrics for name, run in studies.runs(finished_copy, "final").items()
        } == metrics

    def test_what_was_being_written_when_it_was_killed_is_removed(self, finished_copy: Path) -> None:
        tuning = finished_copy / "tuning"
        [rungs, *_] = (tuning / "studies" / "tiny" / "rungs").iterdir()
        program = (
            "import os, signal, sys; from pathlib import Path; from optstudy.records.io import write_bytes\n"
            "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
            "write_bytes(Path(sys.argv[1]), b'half')"
        )
        before = {path for path in tuning.rglob("*") if path.is_file()}
        for path in (rungs / "0009.json", tuning / "best" / "tiny" / "sgd.json", rungs.parent / "a.pt"):
            subprocess.run([sys.executable, "-c", program, path], check=False)
        assert len([path for path in tuning.rglob("*") if path.is_file()]) == len(before) + 3

        list(tiny.study(**tiny.WHOLE).run())

        assert {path for path in tuning.rglob("*") if path.is_file()} == before

    def test_a_new_optimizer_joins_and_the_others_are_not_trained_again(self, finished_copy: Path) -> None:
        before = studies.rung_times(finished_copy)
        table = tiny.study(**tiny.WHOLE).compare()

        events = list(tiny.study(**{**tiny.WHOLE, "optimizers": ("adam",)}).run())

        after = studies.rung_times(finished_copy)
        assert {path: after[path] for path in before} == before
        assert len(after) > len(before)
        assert {event.optimizer for event in events if isinstance(event, SearchResult)} == {
            "sgd",
            "unreliable",
            "adam",
        }
        joined = tiny.reopened_study().compare()
        assert [row for row in joined.rows if row.optimizer != "adam"] == list(table.rows)
        assert [row.seeds for row in joined.rows if row.optimizer == "adam"] == [2]

    def test_only_what_is_asked_for_is_done(self, finished_copy: Path) -> None:
        before = studies.rung_times(finished_copy)

        events = list(tiny.reopened_study().run("training", optimizers=["sgd"], configs=["paper"], seeds=2))

        ended = [event.run for event in events if isinstance(event, RunEnded)]
        assert sorted(ended) == ["sgd/paper/seed-0", "sgd/paper/seed-1"]
        assert not any(isinstance(event, TrialEnded) for event in events)
        assert len(studies.rung_times(finished_copy)) == len(before) + 4

    def test_a_seed_more_trains_one_run_more(self, finished_copy: Path) -> None:
        table = tiny.reopened_study().train(seeds=3, optimizers=["sgd"])

        assert {(row.optimizer, row.seeds) for row in table.rows} == {("sgd", 3), ("unreliable", 2)}

    @pytest.mark.parametrize("removed", [False, True])
    def test_another_range_of_one_optimizer_does_not_stop_a_seed_more_of_another(
        self, removed: bool, finished_copy: Path
    ) -> None:
        space = finished_copy / "tuning" / "spaces" / "unreliable.toml"
        before, original = studies.rung_times(finished_copy), space.read_text()
        recorded = read_recorded(tiny.reopened_study().files)
        space.unlink() if removed else space.write_text(original.replace("high = 0.5", "high = 0.9"))

        table = tiny.reopened_study().train(seeds=3, optimizers=["sgd"])

        assert {(row.optimizer, row.seeds) for row in table.rows} == {("sgd", 3), ("unreliable", 2)}
        now = read_recorded(tiny.reopened_study().files)
        assert recorded is not None
        assert now is not None
        assert now.fingerprint["spaces"] == recorded.fingerprint["spaces"]
        assert now.fingerprint["sources"] == recorded.fingerprint["sources"]
        after = studies.rung_times(finished_copy)
        assert {name: after[name] for name in before} == before

        if removed:
            space.write_text(original.replace("high = 0.5", "high = 0.9"))
        with pytest.raises(UsageError) as raised:
            tiny.reopened_study().train(seeds=3, optimizers=["unreliable"])
        assert str(raised.value) == (
            "study 'tiny' was started with a different space of unreliable (search differ); its results would not be"
            " comparable: restore [search.lr] high = 0.5 in tuning/spaces/unreliable.toml, or use another name, such as"
            " --study tiny-2"
        )
        space.write_text(original)
        table = tiny.reopened_study().train(seeds=3, optimizers=["unreliable"])
        assert {(row.optimizer, row.seeds) for row in table.rows} == {("sgd", 3), ("unreliable", 3)}

    def test_another_best_configuration_supersedes_the_runs_of_the_one_before(self, workspace: Path) -> None:
        list(tiny.study(trials=2, seeds=1).run())
        before = studies.best(workspace, "sgd")
        old = studies.runs(workspace, "final")["sgd/seed-0"].info.run_id

        events = list(tiny.study(trials=4, seeds=1).run())

        assert before["trial"] < 2 <= studies.best(workspace, "sgd")["trial"]
        told = studies.texts(events)
        assert any(
            text.startswith(f"sgd: trial {studies.best(workspace, 'sgd')['trial']} is now the best;")
            for text in told
        )
        assert "sgd: the best configuration has changed; 1 older runs are excluded from tables" in told
        table = tiny.reopened_study().compare()
        assert [row.seeds for row in table.rows] == [1]
        assert table.excluded == {"superseded": 1}
        client = MlflowClient(embedded.uri(workspace))
        assert client.get_run(old).data.tags["optstudy.superseded"] == "true"

    def test_a_changed_setting_is_refused_before_anything_is_done(self, finished_copy: Path) -> None:
        with pytest.raises(UsageError, match="was started with batch_size 25, not 50; .* --study tiny-2$"):
            Study("tiny", batch_size=50)
        with pytest.raises(UsageError, match="was started with tune_epochs 3, not 4; "):
            list(tiny.reopened_study().run("tuning", tune_epochs=4))

    def test_what_was_finished_before_is_marked_so(self, finished_copy: Path) -> None:
        again = list(tiny.study(**tiny.WHOLE).run())
        more = [e for e in tiny.study(**tiny.WHOLE).run("tuning", trials=8) if isinstance(e, TrialEnded)]

        work = [event for event in again if isinstance(event, TrialEnded | WorkDone)]
        assert len(work) > 12
        assert all(event.already_done for event in work)
        assert not any("failed" in text for text in studies.texts(again))
        assert {(e.trial.number, e.already_done) for e in more} == {
            (number, number < 6) for number in range(8)
        }

    def test_a_request_for_fewer_seeds_gives_a_notice(self, finished_copy: Path) -> None:
        events = tiny.reopened_study().run("training", seeds=1)

        assert (
            "study 'tiny' has 2 seeds per configuration already; the number cannot decrease"
            in studies.texts(events)
        )

    def test_artifacts_that_are_gone_are_written_again(self, finished_copy: Path) -> None:
        """From the rungs, and under the same runs."""
        before = {kind: studies.runs(finished_copy, kind) for kind in ("tuning", "final")}
        rungs, table = studies.rung_times(finished_copy), tiny.reopened_study().compare()
        kept = json.loads(studies.artifact(finished_copy, before["final"]["sgd/seed-1"], "epochs.json"))
        shutil.rmtree(finished_copy / "mlruns" / "artifacts")

        told = studies.texts(tiny.reopened_study().run())
        again = studies.texts(tiny.reopened_study().run())

        said = (
            "mlruns/artifacts lacks the files of 6 finished runs; this command restores those of its own runs"
        )
        assert said in told
        assert said not in again
        assert studies.rung_times(finished_copy) == rungs
        assert tiny.reopened_study().compare() == table
        after = {kind: studies.runs(finished_copy, kind) for kind in ("tuning", "final")}
        client = MlflowClient(embedded.uri(finished_copy))
        for kind, found in after.items():
            assert {name: run.info.run_id for name, run in found.items()} == {
                name: run.info.run_id for name, run in before[kind].items()
            }
            assert {name: run.info.status for name, run in found.items()} == {
                name: run.info.status for name, run in before[kind].items()
            }
        for run in after["final"].values():
            assert {
                found.path for found in client.list_artifacts(run.info.run_id)
            } == studies.FILES | studies.CURVATURE_FILES
        assert (
            json.loads(studies.artifact(finished_copy, after["final"]["sgd/seed-1"], "epochs.json")) == kept
        )
        assert studies.artifact(finished_copy, after["tuning"]["sgd"], "search.json")
        experiment = after["final"]["sgd/seed-0"].info.experiment_id
        assert len(client.search_logged_models([experiment])) == 2  # one for each optimizer, as before

    def test_another_place_for_the_runs_is_said_with_the_one_before(self, finished_copy: Path) -> None:
        elsewhere = f"sqlite:///{finished_copy}/other.db"
        settings: dict[str, Any] = {"configs": ["default"], "seeds": 2, "optimizers": ["sgd"]}

        first = studies.texts(tiny.InProcessStudy("tiny", tracking_uri=elsewhere).run("training", **settings))
        same = studies.texts(tiny.InProcessStudy("tiny", tracking_uri=elsewhere).run("training", **settings))
        back = studies.texts(tiny.InProcessStudy("tiny").run("training", **settings))

        [said] = first
        assert said == (
            f"study 'tiny' was logged to the workspace so far, but is now logged to {elsewhere};"
            " give no --tracking-uri to keep its runs together"
        )
        assert same == []
        [said] = back
        assert said == (
            f"study 'tiny' was logged to {elsewhere} so far, but is now logged to the workspace;"
            f" give --tracking-uri {elsewhere} to keep its runs together"
        )

    def test_stopping_in_the_middle_closes_what_is_open_and_the_next_start_goes_on(
        self, workspace: Path
    ) -> None:
        events = tiny.study(trials=2, seeds=1).run()
        next(event for event in events if isinstance(event, TrialEnded))
        events.close()  # type: ignore[attr-defined]  # a generator, as Ctrl-C ends it
        interrupted = studies.runs(workspace, "tuning")

        list(tiny.study(trials=2, seeds=1).run())

        assert interrupted["sgd"].info.status == "KILLED"
        assert {run.info.status for run in studies.runs(workspace, "tuning").values()} == {"FINISHED"}
        assert studies.runs(workspace, "tuning")["sgd"].info.run_id == interrupted["sgd"].info.run_id
        assert [row.seeds for row in tiny.reopened_study().compare().rows] == [1]


def test_what_a_resumed_search_does_for_an_ended_trial_is_read_one_rung(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many trials have ended, MLflow is asked and told the same, and each rung is read once."""
    settings = {**tiny.SETTINGS, "sampler": "random", "pruner": "none", "tune_epochs": 1}
    calls: list[str] = []
    call, read = Connection.call, RunCache.read

    def counted(self: Connection, method: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(method.__name__)
        return call(self, method, *arguments, **options)

    def read_counted(self: RunCache, *arguments: Any) -> Any:
        calls.append("rung")
        return read(self, *arguments)

    monkeypatch.setattr(Connection, "call", counted)
    monkeypatch.setattr(RunCache, "read", read_counted)
    counts = []
    for trials in (2, 4, 6):
        calls.clear()
        list(tiny.study(**{**settings, "trials": trials}).run("tuning"))
        counts.append(Counter(calls))

    assert [count.pop("rung") for count in counts] == [2, 4, 6]
    assert counts[1] == counts[2]
