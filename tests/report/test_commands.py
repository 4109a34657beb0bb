"""The commands of a report reproduce its study."""

import dataclasses
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Never

import evidence as made_up
import pytest
import reports
from finals import LOOKS

from optstudy.cli import options
from optstudy.cli.main import group
from optstudy.records.evidence import Evidence
from optstudy.report.commands import study_commands
from optstudy.study.driver import Study
from optstudy.study.plans import final_plan, trial_plan
from optstudy.study.specification import Specification
from optstudy.study.tuning.flow import search_settings


class HeardError(Exception):
    """The command has said what it asks for."""


@dataclasses.dataclass
class Asking:
    """Gives commands and hears what study they ask for, as the study itself would."""

    workspace: Path
    monkeypatch: pytest.MonkeyPatch
    specification: Specification | None = None
    searched: dict[str, Specification] = dataclasses.field(default_factory=dict)
    trained: dict[tuple[str, str], Specification] = dataclasses.field(default_factory=dict)

    def give(self, commands: str) -> None:
        asking = self

        class Heard(Study):
            def run(
                self, *phases: Any, optimizers: Any = None, configs: Any = None, **settings: Any
            ) -> Never:
                given = {"optimizers": optimizers, "configs": configs, **settings}
                wanted = {key: value for key, value in given.items() if value}
                before = self.specification.to_keys()
                self.specification = self._updated(before | wanted)
                self._record({}, phases or ("tuning", "training"))
                asking.specification = self.specification
                names = optimizers or self.specification.optimizers
                if not phases or "tuning" in phases:
                    asking.searched |= dict.fromkeys(names, self.specification)
                if not phases or "training" in phases:
                    chosen = configs or self.specification.configs
                    asking.trained |= {(o, c): self.specification for o in names for c in chosen}
                raise HeardError

        def opened(
            name: str, location: Any, worker_pool: Any, settings: dict[str, Any], preset: str | None = None
        ) -> Study:
            return Heard(name, preset=preset, workspace=self.workspace, **settings)

        self.monkeypatch.setattr(options, "open_study", opened)
        for command in commands.splitlines():
            program, *arguments = shlex.split(command)
            assert program == "optstudy"
            with pytest.raises(HeardError):
                group.main(arguments, standalone_mode=False)


def unequal_trials() -> Evidence:
    few, many = reports.made_up(("sgd",), 2, trials=4), reports.made_up(("adam",), 2, trials=20)
    return Evidence(few.runs + many.runs, few.searches + many.searches, LOOKS)


def other_configs() -> Evidence:
    both = reports.made_up(("sgd",), 2, configs=("best", "paper"))
    return Evidence(
        both.runs + reports.made_up(("adam",), 2, configs=("default",)).runs, both.searches, LOOKS
    )


def without_a_search_of_its_own() -> Evidence:
    return reports.made_up(("sgd", "adam"), 2, configs=("paper", "default"), searches=False)


ASKED: Mapping[str, Callable[[], Evidence]] = {
    "typical": reports.typical,
    "later": lambda: reports.made_up(study="later"),
    "alone": lambda: reports.made_up(("sgd",), 1, searches=False, configs=("default",)),
    "special": reports.special,
    "unequal trials": unequal_trials,
    "other configs": other_configs,
    "no search": without_a_search_of_its_own,
    "a subset, no curvature": lambda: reports.made_up(
        ("sgd",), 2, searches=False, configs=("paper",), train_size=1000, samples=0, seed=7
    ),
    "no curvature": lambda: reports.made_up(("sgd",), 2, samples=0, seed=7, train_size=1000),
    "all of it": lambda: reports.made_up(
        ("sgd",), 2, samples="all", eigen_last="all", eigen_every=3, seed=11, train_epochs=10, sweep_every=4
    ),
    "every key": lambda: reports.made_up(
        ("sgd", "adam"), 3, configs=("best", "default"), dataset="my data.py:load", model="net.py:make",
        loss="loss.py:own", trials=7, batch=3, sampler="random", startup_trials=0, pruner="hyperband",
        objective="loss", tune_epochs=9, rung_epochs=2, tune_size=1234, finalists=4, finalist_seeds=2,
        validation=99, train_epochs=8, train_size=777, sweep_every=8, samples=50, eigen_last=0, batch_size=32,
        seed=3, threads=2, device="cuda:1",
    ),
    "a search failed": lambda: Evidence(
        (found := reports.made_up(("sgd", "adam"), 2)).runs[:2], found.searches
    ),
}  # fmt: skip


@pytest.mark.parametrize("made", ASKED.values(), ids=ASKED)
def test_the_commands_request_the_same_runs(
    made: Callable[[], Evidence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made()
    study = found.runs[0].run.study
    asking = Asking(tmp_path, monkeypatch)

    asking.give(study_commands(found, study))

    for one in found.runs:
        run, plan = one.run, one.plan
        now = asking.trained[run.optimizer, run.config]
        assert plan is not None
        assert final_plan(now, made_up.space(run.optimizer), {"lr": 0.1}, run.seed) == plan
        assert run.seed < now.training.seeds
        assert (now.margin, now.target) == (run.margin, run.target)
    assert asking.searched.keys() == {one.optimizer for one in found.searches}
    for search in found.searches:
        now = asking.searched[search.optimizer]
        before = Specification.from_keys(search.settings)
        assert search_settings(now) == search_settings(before)
        plans = [
            trial_plan(asked_for, search.space, {"lr": 0.1, "kind": "plain"}, again)
            for again in (0, 1)
            for asked_for in (now, Specification.from_keys({**now.to_keys(), **search.settings}))
        ]
        assert plans[0] == plans[1]
        assert plans[2] == plans[3]


def test_the_commands_train_and_search_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, made in enumerate(ASKED.values()):
        found = made()
        asking = Asking(tmp_path / str(number), monkeypatch)
        asking.give(study_commands(found, found.runs[0].run.study))
        known = {(one.run.optimizer, one.run.config) for one in found.runs}
        failed = {(one.optimizer, "best") for one in found.searches}
        assert asking.trained.keys() <= known | failed


def test_one_command_suffices_if_all_optimizers_are_treated_alike() -> None:
    assert study_commands(reports.typical(), "quick").startswith(
        "optstudy study --study quick --opt sgd --opt adagrad --opt adam --opt adahessian --set configs=best"
    )
    assert [line.split()[1] for line in study_commands(unequal_trials(), "quick").splitlines()] == [
        "tune",
        "tune",
        "train",
    ]
    assert study_commands(without_a_search_of_its_own(), "quick").startswith(
        "optstudy train --study quick --opt sgd --opt adam --config paper --config default"
    )
