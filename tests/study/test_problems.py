"""Failures of a study: each is reported, and costs no other work."""

import json
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny

from optstudy.errors import OptstudyError, UsageError
from optstudy.optimizers import load_space
from optstudy.records.location import Location
from optstudy.report.figures import glyphs
from optstudy.report.write import write_report
from optstudy.study.driver import Study
from optstudy.study.events import RunEnded
from optstudy.study.plans import final_plan
from optstudy.study.specification import Specification
from optstudy.study.status import open_recorded
from optstudy.study.workspace import read_recorded
from optstudy.training import run_verified_rung
from optstudy.workloads import datasets
from optstudy.workloads.datasets import load_description


class TestProblems:
    """What goes wrong is told, costs no more than it must, and leaves the rest."""

    def test_a_search_in_which_every_trial_fails_ends_with_a_problem(self, workspace: Path) -> None:
        raising_late = tiny.UNRELIABLE_SPACE.replace(
            'choices = ["works", "raises"]', 'choices = ["raises_late"]'
        )
        raising_late = raising_late.replace('mode = "works"', 'mode = "raises_late"').replace(
            'mode = "raises"', 'mode = "raises_late"'
        )
        (workspace / "tuning" / "spaces" / "raises_late.toml").write_text(raising_late)

        events = list(tiny.study(optimizers=("raises_late", "sgd"), trials=2, rung_epochs=3, seeds=1).run())

        [problem] = studies.texts(events, problem=True)
        assert problem.startswith(
            "no trial of raises_late completed (failed: RuntimeError: no step in this mode (2 trials)); check the"
            " ranges in "
        )
        assert problem.endswith(" or, if other optimizers fail, too, the model, loss and data")
        assert studies.runs(workspace, "tuning")["raises_late"].info.status == "FAILED"
        assert [row.optimizer for row in tiny.reopened_study().compare().rows] == ["sgd"]
        assert not (workspace / "tuning" / "best" / "tiny" / "raises_late.json").exists()

    def test_a_final_run_that_fails_is_tried_again_by_the_next_command(self, workspace: Path) -> None:
        settings: dict[str, Any] = {"optimizers": ("unreliable",), "configs": ("paper",), "seeds": 1}

        for _ in range(2):
            events = list(tiny.study(**settings).run("training"))
            assert studies.texts(events, problem=True) == [
                "tiny/unreliable/paper/seed-0 failed: RuntimeError: no step in this mode"
            ]
        with pytest.raises(OptstudyError, match="seed-0 failed: RuntimeError: no step in this mode$"):
            tiny.study(**settings).train(configs=["paper"])

    def test_letters_that_no_font_has_are_named_once_by_the_study_and_by_its_report(
        self, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        images = tiny.IMAGES.replace('"top", "middle"', '"\u732b", "\u72d7\u732b"')
        (workspace / "images.py").write_text(images, encoding="utf-8")
        monkeypatch.setattr(glyphs, "_fonts_for", lambda lacking: ([], lacking))
        said = "figures show boxes for \u72d7, \u732b, which no installed font has; install one, such as Noto Sans"

        told = studies.texts(tiny.study().run("training", configs=["default"]))
        written = write_report(open_recorded(Location(workspace)), (), workspace / "report")

        assert [text for text in told if "font" in text] == [said]
        assert written.notices == (said,)

    def test_a_model_that_cannot_be_exported_costs_no_run(self, workspace: Path) -> None:
        (workspace / "net.py").write_text(
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.layer = nn.Linear(64, 3)\n"
            "    def forward(self, x):\n"
            "        x = x.flatten(1)\n"
            "        return self.layer(x) if float(x.sum()) > 0 else self.layer(-x)\n"
            "make = Net\n"
        )

        events = list(tiny.study(configs=("default",), seeds=1).run("training"))

        assert studies.texts(events, problem=True) == []
        assert any("sgd/default/seed-0" in text and "weights.pt" in text for text in studies.texts(events))
        assert studies.runs(workspace, "final")["sgd/default/seed-0"].info.status == "FINISHED"

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"model": "net.py:wrong"}, r"^net\.py has no 'wrong'"),
            (
                {"model": "net.py:four"},
                r"^model 'net\.py:four' returns \(25, 4\) for 25 examples of 3 classes",
            ),
            ({"dataset": "images.py:part"}, r"images\.py:part"),
            ({"validation": 400}, "^the training set has 300 examples, too few to hold out 400"),
            (
                {"tune_size": 250},
                "^the training set has 300 examples, too few to hold out 60 .* and train on 250",
            ),
            ({"batch_size": 241}, "^batch_size is 241, but a trial trains on 240 examples; use at most 240"),
            (
                {"batch_size": 301, "validation": 1, "tune_size": 0},
                "^batch_size is 301, but a trial trains on 299 examples; use at most 299",
            ),
            ({"device": "cuda:63"}, "^device 'cuda:63' is not available; the available ones are cpu"),
            ({"optimizers": ("sdg",)}, "did you mean 'sgd'"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused_before_anything_is_spent(
        self, changes: dict[str, Any], said: str, workspace: Path
    ) -> None:
        with (workspace / "net.py").open("a") as file:
            file.write("\ndef four():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n")

        with pytest.raises(UsageError, match=said) as raised:
            list(tiny.study(**changes).run())

        assert "\n" not in str(raised.value)
        assert read_recorded(tiny.study().files) is None
        assert studies.rung_times(workspace) == {}

    def test_an_optimizer_that_raises_is_named_with_its_space_file_and_the_users_line(
        self, workspace: Path
    ) -> None:
        raising = tiny.UNRELIABLE_SPACE.replace('mode = "works"', 'mode = "raises"')
        (workspace / "tuning" / "spaces" / "unreliable.toml").write_text(raising)

        with pytest.raises(OptstudyError) as raised:
            list(tiny.study(optimizers=("sgd", "unreliable")).run())

        line = 1 + tiny.UNRELIABLE.splitlines().index(
            '            raise RuntimeError("no step in this mode")'
        )
        assert str(raised.value) == (
            "the first steps of unreliable (unreliable.py:Unreliable, tuning/spaces/unreliable.toml) fail at"
            f" unreliable.py:{line}: RuntimeError: no step in this mode"
        )

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("lr", "rate", "unreliable.py:Unreliable rejects rate=0.1, mode='works': "),
            (
                '"unreliable.py:Unreliable"',
                '"unreliable.py:Unrelable"',
                "unreliable.py has no 'Unrelable' (did you mean 'Unreliable'?)",
            ),
            ('"unreliable.py:Unreliable"', '"tuchy.py:Unreliable"', "tuchy.py: no such file in "),
        ],
    )
    def test_an_optimizer_that_cannot_be_made_is_named_with_its_space_file(
        self, old: str, new: str, said: str, workspace: Path
    ) -> None:
        (workspace / "tuning" / "spaces" / "unreliable.toml").write_text(
            tiny.UNRELIABLE_SPACE.replace(old, new)
        )

        with pytest.raises(UsageError) as raised:
            list(tiny.study(optimizers=("unreliable",)).run())

        assert str(raised.value).startswith(f"tuning/spaces/unreliable.toml: {said}")

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"model": "net.py:maek"}, r"^net\.py has no 'maek' [(]did you mean 'make'"),
            ({"model": "lenet"}, "^model 'lenet' is not known"),
            ({"loss": "cross_entropi"}, "^loss 'cross_entropi' is not known"),
            ({"dataset": "minst"}, "^'minst' is not a data set [(]did you mean 'mnist'"),
            ({"dataset": "images.py:laod"}, r"^images\.py has no 'laod'"),
            ({"device": "cuda:63"}, "^device 'cuda:63' is not available"),
        ],
    )
    def test_what_is_not_there_is_said_before_what_differs(
        self, changes: dict[str, Any], said: str, finished_copy: Path
    ) -> None:
        with pytest.raises(UsageError, match=said):
            Study("tiny", **changes)

    def test_training_needs_no_room_for_validation(self, workspace: Path) -> None:
        settings: dict[str, Any] = {
            "configs": ("default",),
            "seeds": 1,
            "tune_size": 10_000,
            "validation": 10_000,
        }

        events = list(tiny.study(**settings).run("training"))

        assert [event.run for event in events if isinstance(event, RunEnded)] == ["sgd/default/seed-0"]

    def test_training_what_was_never_tuned_names_the_command_to_run(self, workspace: Path) -> None:
        with pytest.raises(UsageError) as raised:
            list(tiny.study().run("training"))

        assert str(raised.value) == (
            "study 'tiny' has no best configuration of sgd yet; run: optstudy tune --study tiny --opt sgd"
        )

    @pytest.mark.parametrize("content", ["{", '{"config": {"lr": "high"}}', "[]", '{"config": {"lr": 9}}'])
    def test_a_damaged_best_file_is_one_line_with_its_name(self, content: str, finished_copy: Path) -> None:
        path = finished_copy / "tuning" / "best" / "tiny" / "sgd.json"
        path.write_text(content)

        with pytest.raises(OptstudyError) as raised:
            list(tiny.reopened_study().run("training"))

        assert str(raised.value).startswith(str(path.relative_to(finished_copy)))
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("content", ["{", "[]", '{"trial": 3}', '{"config": 5}'])
    def test_a_damaged_best_file_is_kept_under_another_name_and_the_search_writes_it_again(
        self, content: str, finished_copy: Path
    ) -> None:
        path = finished_copy / "tuning" / "best" / "tiny" / "sgd.json"
        whole = path.read_text()
        path.write_text(content)

        [said] = studies.texts(tiny.reopened_study().run("tuning", optimizers=["sgd"]))

        assert said.startswith(str(path.relative_to(finished_copy)))
        assert said.endswith("; it is kept as sgd.json.damaged-1, and the search writes it again")
        assert "\n" not in said
        assert path.with_name("sgd.json.damaged-1").read_text() == content
        assert path.read_text() == whole

    def test_a_study_that_another_process_runs_is_refused(self, workspace: Path) -> None:
        first = tiny.study().run()
        next(first)

        with pytest.raises(UsageError, match="^study 'tiny' is being run by process "):
            next(iter(tiny.study().run()))
        first.close()  # type: ignore[attr-defined]


class TestData:
    """The data set is the same in every process, and whenever the study goes on."""

    def test_other_data_than_before_are_refused(self, workspace: Path) -> None:
        with (workspace / "images.py").open("a") as file:
            file.write(
                "\n\nfrom pathlib import Path\n\ndef drawn():\n    seed = int(Path('seed.txt').read_text())\n"
                "    return Dataset(*part(300, seed), *part(100, 1), ('top', 'middle', 'low'))\n"
            )
        (workspace / "seed.txt").write_text("0")
        settings: dict[str, Any] = {"dataset": "images.py:drawn", "configs": ("default",), "seeds": 1}
        list(tiny.study(**settings).run("training"))
        (workspace / "seed.txt").write_text("1")
        datasets._load_user_dataset.cache_clear()  # as in another process

        with pytest.raises(UsageError) as raised:
            list(tiny.study(**settings).run("training", seeds=2))

        assert str(raised.value) == (
            "images.py:drawn returned different data than before; it must return the same data each time, in every"
            " process, for example with fixed seeds (if you changed the data on purpose, use another --study)"
        )

    @pytest.mark.slow
    def test_data_that_differ_between_processes_are_refused_and_nothing_is_stored(
        self, workspace: Path
    ) -> None:
        with (workspace / "images.py").open("a") as file:
            file.write(
                "\n\ndef drawn():\n    import os\n"
                "    return Dataset(*part(300, os.getpid()), *part(100, 1), ('top', 'middle', 'low'))\n"
            )

        with pytest.raises(UsageError, match="^images.py:drawn returned different data than before; "):
            list(tiny.study(jobs=2, dataset="images.py:drawn", seeds=8, configs=("default",)).run())

        kept = (workspace / "tuning" / "studies" / "tiny" / "rungs").rglob("*.json")
        assert not any(json.loads(path.read_text())["outcome"] == "failed" for path in kept)

    def test_a_rung_on_other_data_is_not_trained(self, user_files: Path) -> None:
        sgd = load_space("sgd", user_files)
        specification = Specification.from_keys(tiny.SETTINGS)
        plan = final_plan(specification, sgd, sgd.default, 0)
        checksum = load_description(plan.dataset).checksum

        assert run_verified_rung("of other data", plan, None, 0, 1) is None
        assert run_verified_rung(checksum, plan, None, 0, 1) is not None
