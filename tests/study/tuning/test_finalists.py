"""The best trials of a search are trained again from other seeds, and these scores alone decide."""

import json
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, cast

import cases
import pytest
import studies
import tiny

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Task, drive
from optstudy.optimizers import load_space
from optstudy.records.arrays import to_npz
from optstudy.records.location import Location
from optstudy.records.plan import DatasetDescription, Plan
from optstudy.records.provenance import Provenance
from optstudy.records.run import EpochRecord, Rung
from optstudy.records.search import WORST, Finalist, SearchResult, Trial, select_best
from optstudy.study.context import Context
from optstudy.study.estimate import estimate_work
from optstudy.study.events import Event, Notice, WorkDone
from optstudy.study.plans import final_plan, trial_plan
from optstudy.study.run_cache import RunCache
from optstudy.study.specification import Specification
from optstudy.study.status import read_statuses
from optstudy.study.tuning.finalists import choose_finalist
from optstudy.study.tuning.journal import Journal
from optstudy.study.workspace import StudyFiles
from optstudy.tracking import LoggedRun, Tracking

Objective = Literal["accuracy", "loss"]
End = float | Literal["diverged", "failed"]
Ends = Mapping[tuple[float, int], End]  # by learning rate and seed

SGD = load_space("sgd", cases.HERE)
DATA = DatasetDescription("images.py:load", "0", 300, 100, ("top", "middle", "low"), (1, 8, 8), "uint8")
WORK = 10  # of an epoch
STATE = to_npz({})  # of any run
GOOD = {"accuracy": (0.9, 0.8, 0.7), "loss": (0.1, 0.2, 0.3)}  # from the best on


def trial(number: int, score: float | None, lr: float | None = None, state: Any = "completed") -> Trial:
    params = {"lr": (number + 1) / 100 if lr is None else lr, "momentum": 0.0, "weight_decay": 0.0}
    return Trial(number, params, state, score, (score,), 3, 3.0 * WORK)


def searched(*trials: Trial, objective: Objective = "accuracy") -> SearchResult:
    return SearchResult("tiny", SGD, objective, trials, select_best(trials, objective))


@dataclass
class Scripted:
    """Workers whose runs end as they are told; the newest task returns first where asked for."""

    ends: Ends
    newest_first: bool = False
    plans: list[Plan] = field(default_factory=list)  # that were begun
    waiting: deque[tuple[int, Task]] = field(default_factory=deque)

    def __len__(self) -> int:
        return 1

    def submit(self, ticket: int, task: Task) -> None:
        self.waiting.append((ticket, task))

    def next_result(self) -> tuple[int, Any]:
        ticket, task = self.waiting.pop() if self.newest_first else self.waiting.popleft()
        _, plan, state, since, until = task.arguments
        assert (state is not None) == (since > 0)
        if since == 0:
            self.plans.append(plan)
        end = self.ends[plan.method.arguments["lr"], plan.seed]
        if end == "failed":
            return ticket, OptstudyError("RuntimeError: no step in this mode")
        diverged = end == "diverged"
        score = 0.4 if diverged else float(end)
        accuracy, loss = (score, 1 - score) if score <= 1 else (0.0, score)
        last = until == plan.epochs
        record = EpochRecord(
            until, 0.5, 0.5, None if diverged else loss, accuracy, 1.0, 1.0, 1e9 + until, WORK, 0
        )
        outcome: Any = "diverged" if diverged else "completed" if last else "running"
        predicted = None if outcome == "running" else (0,) * plan.split.validation
        return ticket, (Rung((record,), (), outcome, predicted), STATE)


@dataclass
class Logged:
    """What would be logged, by name; a run that is left open is a mistake."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def open_run(self, experiment: str, name: str, **options: Any) -> str:
        assert name not in self.runs
        self.runs[name] = {
            "experiment": experiment,
            **options,
            "epochs": [],
            "heldout": None,
            "outcome": None,
        }
        return name

    def log_epochs(self, run_id: str, records: Sequence[EpochRecord], heldout: str) -> None:
        self.runs[run_id]["epochs"] += [record.epoch for record in records]
        self.runs[run_id]["heldout"] = heldout

    def log_metrics(self, run_id: str, metrics: Iterable[tuple[str, float, int, float]]) -> None:
        self.runs[run_id]["metrics"] = {name: value for name, value, _, _ in metrics}

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self.runs[run_id]["problem"] = tags["optstudy.problem"]

    def close_run(self, run_id: str, outcome: str, _finished_at: float | None) -> None:
        assert self.runs[run_id]["outcome"] is None
        self.runs[run_id]["outcome"] = outcome


def context_of(folder: Path, known: Mapping[str, LoggedRun] | None = None, **changes: Any) -> Context:
    settings = {**tiny.SETTINGS, "finalists": 2, "finalist_seeds": 2, **changes}
    values: dict[str, Any] = {
        "files": StudyFiles(folder, "tiny"),
        "specification": Specification.from_keys(settings),
        "spaces": {"sgd": SGD},
        "sources": {
            name: {} for name in ("images.py:load", "net.py:make", "cross_entropy", "torch.optim.SGD")
        },
        "provenance": Provenance(data=DATA.checksum),
        "data": DATA,
        "rehearsals": {"sgd": cases.REHEARSAL},
        "cache": RunCache(folder / "rungs"),
        "journal": Journal(folder / "optuna.log"),
        "tracking": cast(Tracking, Logged()),
        "logged": {"tiny/tuning": known or {}, "tiny/final": {}},
    }
    return Context(**values)


def choose(context: Context, found: SearchResult, workers: Scripted) -> tuple[SearchResult, list[Event]]:
    """Let the flow run to its end."""
    returned: list[SearchResult] = []

    def flow() -> Generator[Any, Any, None]:
        returned.append((yield from choose_finalist(context, found, "the search's run")))

    events = list(drive([flow()], workers))
    return returned[0], events


def logged_by(context: Context) -> dict[str, dict[str, Any]]:
    return cast(Logged, context.tracking).runs


def constant(scores: Mapping[float, Sequence[End]]) -> dict[tuple[float, int], End]:
    """Ends by learning rate, for the seeds 2000, 3000, ..."""
    return {(lr, 1000 * place): end for lr, ends in scores.items() for place, end in enumerate(ends, start=2)}


class TestChoosing:
    """Which finalist is chosen."""

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_the_best_mean_over_other_seeds_decides_whatever_the_search_scored(
        self, newest_first: bool, tmp_path: Path
    ) -> None:
        found = searched(trial(0, 0.80), trial(1, 0.95), trial(2, 0.90))
        ends = constant({0.01: (0.99, 0.99), 0.02: (0.7, 0.8), 0.03: (0.6, 0.95)})
        workers = Scripted(ends, newest_first)

        after, _ = choose(context_of(tmp_path), found, workers)

        assert after.best == found.trials[2]
        assert after.finalists == (
            Finalist(1, (2000, 3000), (0.7, 0.8), 4 * 3 * WORK // 2),
            Finalist(2, (2000, 3000), (0.6, 0.95), 4 * 3 * WORK // 2),
        )
        assert after.trials == found.trials
        assert after.gradient_work == found.gradient_work + 2 * 2 * 3 * WORK

    def test_a_search_that_minimises_the_loss_chooses_by_the_least_loss(self, tmp_path: Path) -> None:
        found = searched(trial(0, 0.1), trial(1, 0.2), trial(2, 0.15), objective="loss")
        ends = constant({0.01: (0.2, 0.2), 0.02: (1.0, 1.0), 0.03: (0.7, 0.3)})  # accuracies, 1 - loss

        after, _ = choose(context_of(tmp_path, objective="loss"), found, Scripted(ends))

        assert [one.trial for one in after.finalists] == [0, 2]
        assert after.best == found.trials[2]
        assert after.finalists[1].scores == pytest.approx((0.3, 0.7))

    @pytest.mark.parametrize("end", ["diverged", "failed"])
    @pytest.mark.parametrize("objective", ["accuracy", "loss"])
    def test_one_that_diverges_or_fails_counts_as_the_worst_in_that_seed(
        self, end: End, objective: Objective, tmp_path: Path
    ) -> None:
        best, second, _ = GOOD[objective]
        found = searched(trial(0, best), trial(1, second), objective=objective)
        ends = constant({0.01: (0.99, end), 0.02: (0.51, 0.51)})

        after, events = choose(context_of(tmp_path, objective=objective), found, Scripted(ends))

        assert after.best == found.trials[1]
        assert after.finalists[0].scores[1] is None
        assert after.finalists[0].mean(objective) == pytest.approx(
            fmean([0.99, 0.0]) if objective == "accuracy" else fmean([0.01, WORST["loss"]])
        )
        told = [event.text for event in events if isinstance(event, Notice)]
        assert told == (
            ["trial sgd/000/seed-3000 failed: RuntimeError: no step in this mode"] if end == "failed" else []
        )

    def test_one_that_is_worst_everywhere_does_not_stop_the_choice(self, tmp_path: Path) -> None:
        found = searched(trial(0, 0.9), trial(1, 0.8))
        ends = constant({0.01: ("failed", "diverged"), 0.02: ("diverged", "failed")})

        after, _ = choose(context_of(tmp_path), found, Scripted(ends))

        assert after.best == found.trials[0]
        assert [one.scores for one in after.finalists] == [(None, None), (None, None)]

    @pytest.mark.parametrize("objective", ["accuracy", "loss"])
    def test_of_equal_means_the_better_score_of_the_search_decides(
        self, objective: Objective, tmp_path: Path
    ) -> None:
        best, second, third = GOOD[objective]
        found = searched(trial(0, second), trial(1, third), trial(2, best), objective=objective)
        ends = constant({0.01: (0.75, 0.5), 0.03: (0.5, 0.75)})  # means without rounding

        after, _ = choose(context_of(tmp_path, objective=objective), found, Scripted(ends))

        assert after.best == found.trials[2]

    @pytest.mark.parametrize("loss", [150.0, 1e30])
    def test_a_finite_loss_is_no_worse_than_one_that_diverged(self, loss: float) -> None:
        huge, lost = Finalist(0, (2000,), (loss,), 1.0), Finalist(1, (2000,), (None,), 1.0)

        assert huge.mean("loss") == lost.mean("loss") == WORST["loss"]
        trials = (trial(0, 0.1), trial(1, 0.2))
        assert select_best(trials, "loss", [lost, huge]) is trials[1]
        assert select_best(trials, "loss", [huge, lost]) is trials[0]


class TestWhatIsTrained:
    """Which runs are begun."""

    def test_one_finalist_trains_nothing_again(self, tmp_path: Path) -> None:
        found, workers = searched(trial(0, 0.9), trial(1, 0.8)), Scripted({})

        after, events = choose(context_of(tmp_path, finalists=1), found, workers)

        assert (after, events, workers.plans) == (found, [], [])

    def test_one_completed_trial_leaves_nothing_to_choose(self, tmp_path: Path) -> None:
        found = searched(trial(0, None, state="failed"), trial(1, 0.8), trial(2, 0.9, state="pruned"))
        workers = Scripted({})

        after, events = choose(context_of(tmp_path, finalists=3), found, workers)

        assert (after, events, workers.plans) == (found, [], [])
        assert after.best == found.trials[1]

    def test_no_completed_trial_leaves_none_chosen(self, tmp_path: Path) -> None:
        after, _ = choose(context_of(tmp_path), searched(trial(0, None, state="diverged")), Scripted({}))

        assert after.best is None

    def test_only_completed_trials_are_finalists_the_best_first(self, tmp_path: Path) -> None:
        found = searched(
            trial(0, 0.5), trial(1, 0.99, state="pruned"), trial(2, 0.7), trial(3, None, state="diverged")
        )
        workers = Scripted(constant({0.01: (0.5, 0.5), 0.03: (0.5, 0.5)}))

        after, _ = choose(context_of(tmp_path, finalists=4), found, workers)

        assert [one.trial for one in after.finalists] == [2, 0]

    def test_trials_with_one_configuration_are_one_finalist(self, tmp_path: Path) -> None:
        """They are the same run, which would be trained twice at once."""
        found = searched(trial(0, 0.9, lr=0.5), trial(1, 0.9, lr=0.5), trial(2, 0.6), trial(3, 0.7))
        workers = Scripted(constant({0.5: (0.4, 0.4), 0.04: (0.5, 0.5)}))

        after, _ = choose(context_of(tmp_path), found, workers)

        assert [one.trial for one in after.finalists] == [0, 3]
        assert len(workers.plans) == 4

    @pytest.mark.parametrize("seed", [0, 7])
    def test_they_start_from_seeds_that_no_trial_and_no_final_run_starts_from(
        self, seed: int, tmp_path: Path
    ) -> None:
        context = context_of(tmp_path, seed=seed, seeds=1000, finalist_seeds=3)
        specification, found = context.specification, searched(trial(0, 0.9), trial(1, 0.8))
        seeds = [seed + 2000, seed + 3000, seed + 4000]
        workers = Scripted({(lr, one): 0.5 for lr in (0.01, 0.02) for one in seeds})

        choose(context, found, workers)

        assert sorted(plan.seed for plan in workers.plans) == sorted(2 * seeds)
        others = {
            trial_plan(specification, SGD, SGD.default).seed,
            *(
                final_plan(specification, SGD, SGD.default, one).seed
                for one in range(specification.training.seeds)
            ),
        }
        assert others.isdisjoint(seeds)

    def test_they_differ_from_their_trial_in_the_seed_alone(self, tmp_path: Path) -> None:
        context, workers = context_of(tmp_path), Scripted(constant({0.01: (0.5, 0.5), 0.02: (0.5, 0.5)}))
        found = searched(trial(0, 0.9), trial(1, 0.8))

        choose(context, found, workers)

        for plan in workers.plans:
            own = next(t for t in found.trials if t.params["lr"] == plan.method.arguments["lr"])
            assert replace(plan, seed=1000) == trial_plan(context.specification, SGD, own.params)


class TestLogging:
    """What is logged of them, and what is done when they are there already."""

    def test_each_is_a_run_under_its_search_with_validation_metrics(self, tmp_path: Path) -> None:
        context = context_of(tmp_path, tune_epochs=3, rung_epochs=2)
        found = searched(trial(0, 0.9), trial(11, 0.8))
        ends = constant({0.01: (0.5, "diverged"), 0.12: ("failed", 0.5)})

        choose(context, found, Scripted(ends))

        logged = logged_by(context)
        assert set(logged) == {
            f"sgd/{number}/seed-{seed}" for number in ("000", "011") for seed in (2000, 3000)
        }
        assert {name: (run["outcome"], run["epochs"]) for name, run in logged.items()} == {
            "sgd/000/seed-2000": ("completed", [2, 3]),
            "sgd/000/seed-3000": ("diverged", [2]),
            "sgd/011/seed-2000": ("failed", []),
            "sgd/011/seed-3000": ("completed", [2, 3]),
        }
        for name, run in logged.items():
            assert (run["experiment"], run["parent"]) == ("tiny/tuning", "the search's run")
            assert (run["heldout"], run["logged"]) == ("validation", None)
            assert run["tags"] == {
                "optstudy.study": "tiny",
                "optstudy.kind": "finalist",
                "optstudy.data": DATA.checksum,
                "optstudy.sources": "{}",
            }
            assert run["params"]["seed"] == int(name[-4:])
        assert logged["sgd/000/seed-2000"]["metrics"] == {"gradient_work": 2 * WORK}
        assert logged["sgd/011/seed-2000"]["problem"] == "RuntimeError: no step in this mode"
        assert (
            "metrics" not in logged["sgd/011/seed-2000"]
        )  # with another time at each start they would double

    def test_what_is_on_disk_is_not_trained_again_failures_neither(self, tmp_path: Path) -> None:
        found = searched(trial(0, 0.9), trial(1, 0.8))
        ends = constant({0.01: (0.5, "diverged"), 0.02: ("failed", 0.7)})
        first, _ = choose(context_of(tmp_path), found, Scripted(ends))

        again, _ = choose(context_of(tmp_path), found, Scripted({}))

        assert again == first
        assert list((tmp_path / "rungs").rglob("*.pt")) == []  # no state is needed any more

    def test_a_run_that_has_ended_is_left_alone_and_one_that_was_interrupted_is_reopened(
        self, tmp_path: Path
    ) -> None:
        found = searched(trial(0, 0.9), trial(1, 0.8))
        ends = constant({0.01: (0.5, 0.6), 0.02: ("failed", 0.7)})
        begun = context_of(tmp_path)
        choose(begun, found, Scripted(ends))
        keys = {name: run["key"] for name, run in logged_by(begun).items()}
        stopped = "sgd/000/seed-3000"
        known = {
            name: LoggedRun(f"id of {name}", key, name != stopped, name != stopped)
            for name, key in keys.items()
        }
        context = context_of(tmp_path, known)

        _, events = choose(context, found, Scripted({}))

        assert set(logged_by(context)) == {stopped}
        assert logged_by(context)[stopped]["logged"] == known[stopped]
        work = [event for event in events if isinstance(event, WorkDone)]
        assert {event.run: event.already_done for event in work} == {name: name != stopped for name in keys}
        assert not any(isinstance(event, Notice) for event in events)  # of a failure that was told before

    @pytest.mark.parametrize("end", [0.5, "diverged", "failed"])
    def test_their_progress_adds_up_to_what_was_estimated(self, end: End, tmp_path: Path) -> None:
        context, found = context_of(tmp_path), searched(trial(0, 0.9), trial(1, 0.8))
        ends = constant({0.01: (end, end), 0.02: (end, end)})

        _, events = choose(context, found, Scripted(ends))

        plan = trial_plan(context.specification, SGD, SGD.default)
        done = sum(event.seconds for event in events if isinstance(event, WorkDone))
        assert done == pytest.approx(4 * context.seconds("sgd", plan, 0, plan.epochs))


@pytest.mark.parametrize(
    ("finalists", "runs"),
    [(1, 4), (2, 4 + 2 * 3), (4, 4 + 4 * 3)],
)
def test_an_estimate_counts_the_epochs_of_the_finalists(finalists: int, runs: int) -> None:
    specification = Specification.from_keys({**tiny.SETTINGS, "finalists": finalists, "finalist_seeds": 3})

    def seconds(*, tuning: bool) -> float:
        rehearsals, spaces = {"sgd": cases.REHEARSAL}, {"sgd": SGD}
        estimate = estimate_work(DATA, rehearsals, specification, spaces, tuning=tuning, configs=("best",))
        return estimate.trial_seconds["sgd"]

    # 3 epochs of 240 images at batch 25, a tenth of a second a step, and of 60 to judge by
    assert seconds(tuning=True) == pytest.approx(runs * 3 * (10 * 0.1 + 60 * 0.01))
    assert seconds(tuning=False) == 0


def best(workspace: Path, optimizer: str = "sgd") -> dict[str, Any]:
    kept = json.loads((workspace / "tuning" / "best" / "tiny" / f"{optimizer}.json").read_text())
    return {**kept, "commit": None}


FINALISTS = {f"sgd/{number}/seed-{seed}" for number in ("000", "001") for seed in (2000, 3000)}


class TestStudy:
    """A whole study with finalists."""

    def test_mlflow_has_a_run_for_each_under_the_run_of_the_search(self, retrained: Path) -> None:
        found = studies.runs(retrained, "tuning")
        finalists = {name: run for name, run in found.items() if run.data.tags["optstudy.kind"] == "finalist"}

        assert set(finalists) == FINALISTS  # unreliable has one completed trial, and none to choose among
        for name, run in finalists.items():
            assert run.info.status == "FINISHED"
            assert run.data.tags["mlflow.parentRunId"] == found["sgd"].info.run_id
            assert {"validation/accuracy", "validation/loss", "gradient_work"} <= set(run.data.metrics)
            assert not any(metric.startswith(("test/", "final/")) for metric in run.data.metrics)
            own = found[name.rpartition("/")[0]].data.params
            assert run.data.params == {**own, "seed": name[-4:]}

    def test_the_kept_file_has_the_scores_of_every_finalist_and_the_mean_of_the_chosen(
        self, retrained: Path
    ) -> None:
        found, kept = studies.runs(retrained, "tuning"), best(retrained)

        for row in kept["finalists"]:
            runs = [found[f"sgd/{row['trial']:03d}/seed-{seed}"] for seed in row["seeds"]]
            assert row["scores"] == [run.data.metrics["validation/accuracy"] for run in runs]
            assert row["mean"] == pytest.approx(fmean(row["scores"]))
        assert [row["seeds"] for row in kept["finalists"]] == [[2000, 3000], [2000, 3000]]
        winner = max(kept["finalists"], key=lambda row: row["mean"])
        assert (kept["trial"], kept["score"]) == (winner["trial"], winner["mean"])
        everything = [run for name, run in found.items() if name.startswith("sgd/")]
        assert kept["gradient_work"] == sum(run.data.metrics["gradient_work"] for run in everything)
        assert "finalists" not in best(retrained, "unreliable")

    def test_final_runs_take_the_hyperparameters_of_the_chosen_one(self, retrained: Path) -> None:
        found = studies.runs(retrained, "final")

        for optimizer in ("sgd", "unreliable"):
            config = {name: str(value) for name, value in best(retrained, optimizer)["config"].items()}
            own = studies.runs(retrained, "tuning")[f"{optimizer}/{best(retrained, optimizer)['trial']:03d}"]
            assert config.items() <= own.data.params.items()
            for seed in (0, 1):
                assert config.items() <= found[f"{optimizer}/seed-{seed}"].data.params.items()

    def test_status_does_not_count_them_as_trials(self, retrained: Path) -> None:
        statuses = {one.optimizer: one for one in read_statuses(Location(retrained))}

        assert {name: (one.trials, one.trials_asked) for name, one in statuses.items()} == {
            "unreliable": (2, 2),
            "sgd": (2, 2),
        }

    @pytest.mark.parametrize(
        ("key", "value", "before"), [("finalists", 3, 2), ("finalists", 1, 2), ("finalist_seeds", 3, 2)]
    )
    def test_other_finalists_are_refused_once_tuning_has_begun(
        self, key: str, value: int, before: int, retrained: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(retrained)

        with pytest.raises(UsageError, match=f"^study 'tiny' was started with {key} {before}, not {value}; "):
            tiny.study(**{**studies.CHOOSING, key: value})

    def test_run_again_it_trains_nothing_and_leaves_mlflow_as_it_was(self, retrained_copy: Path) -> None:
        rungs, logged, kept = (
            studies.written(retrained_copy),
            studies.logged(retrained_copy),
            best(retrained_copy),
        )

        events = list(tiny.reopened_study().run())

        assert studies.written(retrained_copy) == rungs
        assert studies.logged(retrained_copy) == logged
        assert best(retrained_copy) == kept
        assert not any(isinstance(event, Notice) and event.problem for event in events)
        work = [event for event in events if isinstance(event, WorkDone)]
        assert {event.run for event in work} > FINALISTS
        assert all(event.already_done for event in work)
        [ended] = [e for e in events if isinstance(e, SearchResult) and e.optimizer == "sgd"]
        assert [one.trial for one in ended.finalists] == [row["trial"] for row in kept["finalists"]]
        assert ended.best is not None
        assert ended.best.number == kept["trial"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_study_stopped_again_and_again_among_its_finalists_ends_with_the_same_choice(
    killed: bool, retrained: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, it has no time to close what is open in MLflow."""
    settings: dict[str, Any] = {**studies.CHOOSING, "optimizers": ("sgd",)}
    stops = 0
    for moment in (1, 6, 3):  # of the events of finalists that are not over yet
        events = cast(Generator[Event, None, None], tiny.study(**settings).run("tuning"))
        ours = (e for e in events if isinstance(e, WorkDone) and "/seed-" in e.run and not e.already_done)
        before = studies.written(workspace)
        for _ in zip(range(moment), ours, strict=False):
            stops += 1
        with monkeypatch.context() as patch:
            if killed:
                patch.setattr(Tracking, "interrupt_open_runs", lambda *_: None)
            events.close()
        assert before.items() <= studies.written(workspace).items()
        open_runs = [
            run for run in studies.runs(workspace, "tuning").values() if run.info.status == "RUNNING"
        ]
        assert bool(open_runs) == killed
    before = studies.written(workspace)

    list(tiny.study(**settings).run("tuning"))

    assert stops == 10
    assert before.items() <= studies.written(workspace).items()
    assert best(workspace) == best(retrained)
    found, wanted = studies.runs(workspace, "tuning"), studies.runs(retrained, "tuning")
    assert set(found) == {name for name in wanted if name.startswith("sgd")}
    for name, run in found.items():
        assert run.info.status == "FINISHED"
        assert run.data.params == wanted[name].data.params
    assert _points(workspace) == _points(retrained)  # each once, whenever it was logged


def _points(workspace: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return what was logged of finalists, clock readings apart."""
    logged = studies.logged(workspace, "tuning")
    return {
        name: {
            metric: [(step, value) for step, value, _ in points]
            for metric, points in logged[name][3].items()
            if metric != "epoch_seconds"
        }
        for name in FINALISTS
    }
