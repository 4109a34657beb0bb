"""What runs and searches left in MLflow comes back as records, whole, in order, or not at all."""

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import cases
import evidence as made_up
import numpy as np
import pytest
import studies
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution

from optstudy.comparison.read import read_studies
from optstudy.optimizers import load_space
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.location import Location
from optstudy.records.naming import RowKey
from optstudy.records.plan import run_key
from optstudy.records.search import Finalist, SearchResult, Trial, read_search
from optstudy.records.space import Choice, Range, Space
from optstudy.study.tuning.distributions import distributions, first_configs, from_optuna
from optstudy.study.workspace import StudyFiles, read_recorded
from optstudy.tracking import Tracking, open_tracking
from optstudy.tracking.evidence import read_files

finite = st.floats(allow_nan=False, allow_infinity=False)
score = st.none() | finite
scalars = st.booleans() | st.integers(-(2**40), 2**40) | finite | st.text(max_size=4)
params = st.dictionaries(st.text(max_size=4), scalars, max_size=3)
trials = st.builds(
    Trial,
    st.integers(0, 10**6),
    params,
    st.sampled_from(["completed", "pruned", "diverged", "failed"]),
    score,
    st.lists(score, max_size=3).map(tuple),
    st.integers(0, 10**6),
    finite,
)
finalists = st.builds(
    Finalist,
    st.integers(0, 10**6),
    st.lists(st.integers(0, 10**6), max_size=3).map(tuple),
    st.lists(score, max_size=3).map(tuple),
    finite,
)
ranges = st.builds(
    Range, st.text(max_size=4), finite, finite, st.booleans(), st.booleans(), st.just(False), st.text()
) | st.builds(
    Range,
    st.text(max_size=4),
    st.integers(1, 9),
    st.integers(9, 99),
    st.booleans(),
    st.just(False),
    st.just(True),
    st.text(),
)
choices = st.builds(
    Choice, st.text(max_size=4), st.lists(scalars, min_size=1, max_size=4).map(tuple), st.text()
)
spaces = st.builds(
    Space,
    name=st.text(max_size=4),
    optimizer=st.text(max_size=4),
    needs=st.sampled_from(["", "closure"]),
    seeded=st.booleans(),
    hessian_products=st.integers(0, 3),
    tuples=st.dictionaries(
        st.text(max_size=4), st.lists(st.text(max_size=4), max_size=2).map(tuple), max_size=2
    ),
    fixed=params,
    search=st.lists(ranges | choices, max_size=3).map(tuple),
    default=params,
    paper=st.none() | params,
    source=st.just(Path("mine.toml")),
)
searches = st.builds(
    SearchResult,
    st.text(max_size=4),
    spaces,
    st.sampled_from(["accuracy", "loss"]),
    st.lists(trials, max_size=3).map(tuple),
    st.none() | trials,
    st.lists(finalists, max_size=2).map(tuple),
    st.dictionaries(st.text(max_size=4), finite, max_size=2),
    st.just({"trials": 8, "sampler": "tpe", "objective": "loss", "seed": 0}),
)


def typed(value: Any) -> Any:
    """Return a value so that == tells tuples from lists, and true and 1.0 from 1."""
    if hasattr(value, "__dataclass_fields__"):
        return type(value), {field.name: typed(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return dict, [(key, typed(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    return type(value), value


def read_again(search: SearchResult) -> SearchResult:
    return read_search(json.loads(json.dumps(search.to_form())), "search.json")


@given(search=searches)
@settings(max_examples=40)
def test_a_search_is_read_as_written(search: SearchResult) -> None:
    assert typed(read_again(search)) == typed(search)


@pytest.mark.parametrize("space", cases.spaces(), ids=lambda space: space.name)
def test_a_search_of_every_packaged_space_is_read_as_written(space: Space) -> None:
    lowest = {
        name: one.choices[-1] if isinstance(one, CategoricalDistribution) else cast(Any, one).low
        for name, one in distributions(space).items()
    }
    tried = [*first_configs(space), from_optuna(space, lowest)]
    found = tuple(Trial(n, config, "completed", 0.5, (None, 0.5), 2, 20.0) for n, config in enumerate(tried))
    lost = Trial(len(found), tried[0], "diverged", None, (None,), 1, 10.0)
    finalist = Finalist(0, (2000, 3000), (0.5, None), 40.0)
    one = SearchResult(
        "mine", _without_folder(space), "accuracy", (*found, lost), found[-1], (finalist,), {"lr": 1.0}
    )

    again = read_again(one)

    assert typed(again) == typed(one)
    assert again.space.contains(tried[-1])
    assert again.space.arguments(tried[-1]) == space.arguments(tried[-1])


def _without_folder(space: Space) -> Space:
    return replace(space, source=Path(space.source.name))


def test_a_search_file_has_no_local_path_of_its_space() -> None:
    space = load_space("sgd", cases.HERE)
    one = replace(made_up.search_result(), space=space)

    data = json.dumps(one.to_form())

    assert space.source.is_absolute()
    assert str(space.source.parent) not in data
    assert read_search(json.loads(data), "search.json").space.source == Path("sgd.toml")


def test_choices_keep_their_kinds_and_their_order() -> None:
    mixed = Choice("mixed", (True, 1, 1.0, "1", False, 0), "each is another")
    beta = Range("beta", 0.5, 0.999, log=True, complement=True, integer=False, why="")
    space = replace(made_up.space("sgd"), search=(mixed, beta), tuples={"betas": ("beta", "mixed")})
    one = replace(made_up.search_result(), space=space)

    again = read_again(one).space

    assert typed(again.search) == typed((mixed, beta))
    assert distributions(again) == distributions(space)


@pytest.mark.parametrize("scaled", [0, 3])
def test_the_eigenvalue_trace_is_read_back_to_the_bit(scaled: int) -> None:
    one = replace(
        made_up.trace(np.random.default_rng(0), 1.4, 20),
        probability=np.where(np.arange(20) % 4 == 0, 1e-12, math.nan),
        preconditioned_step=np.arange(scaled),
        preconditioned=np.linspace(1, 2, scaled),
    )

    again = EigenTrace.from_bytes(one.to_bytes())

    for field in fields(EigenTrace):
        wanted, found = getattr(one, field.name), getattr(again, field.name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_other_studies_are_left_out_and_seeds_are_in_order() -> None:
    runs = [made_up.run_evidence(seed=seed, study=study) for study in ("a", "b") for seed in (2, 0, 10, 1)]
    found = Evidence(tuple(runs), (made_up.search_result(study="b"), made_up.search_result(study="a")))

    left = found.of_studies(["b"])

    assert [one.run.study for one in left.runs] == ["b"] * 4
    assert [one.study for one in left.searches] == ["b"]
    rows = found.rows()
    assert list(rows) == [("a", "sgd", "best"), ("b", "sgd", "best")]
    assert [one.run.seed for one in rows[RowKey("b", "sgd", "best")]] == [0, 1, 2, 10]


def tracking_of(workspace: Path) -> Tracking:
    return open_tracking(Location(workspace))[0]


def read(workspace: Path) -> Evidence:
    tracking = tracking_of(workspace)
    return read_files(tracking, read_studies(tracking, ["tiny"], workspace=workspace))


def named(one: RunEvidence) -> str:
    return f"{one.run.optimizer}/seed-{one.run.seed}"


def files_of(workspace: Path, name: str) -> Path:
    """Return where a final run's artifacts lie."""
    [run] = [one.run for one in read(workspace).runs if named(one) == name]
    return Path(run.files.removeprefix("file://"))


class TestStudy:
    """A whole study, which logged unreliable's runs before those of sgd."""

    def test_runs_come_in_the_order_of_the_comparison(self, retrained_copy: Path) -> None:
        found = read(retrained_copy)

        assert [named(one) for one in found.runs] == [
            "sgd/seed-0", "sgd/seed-1", "unreliable/seed-0", "unreliable/seed-1",
        ]  # fmt: skip
        rows = tiny.reopened_study().compare().rows
        assert list(found.rows()) == [(row.study, row.optimizer, row.config) for row in rows]
        assert [one.optimizer for one in found.searches] == ["sgd", "unreliable"]

    def test_a_run_has_its_plan_epochs_predictions_and_curvature(self, retrained_copy: Path) -> None:
        for one in read(retrained_copy).runs:
            assert one.plan is not None
            assert (one.plan.seed, one.plan.epochs, one.plan.model) == (one.run.seed, 2, "net.py:make")
            assert [record.epoch for record in one.epochs] == [1, 2]
            assert one.epochs[-1].heldout_accuracy == one.run.test_accuracy
            assert one.epochs[-1].exact_accuracy == pytest.approx(one.run.train_accuracy)
            assert one.predictions is not None
            assert one.predictions.classes == ("top", "middle", "low")
            assert one.predictions.correct.mean() == pytest.approx(one.run.test_accuracy)
            assert one.trace is not None
            assert one.trace.step.tolist() == [22, 23]  # the last two of 2 epochs of 12 steps
            assert one.curvature is not None
            assert one.run.curvature is not None
            assert one.curvature.values[0] == one.run.curvature.lambda_1
            assert one.curvature.samples == 20

    def test_a_plan_is_read_back_with_the_key_of_its_run(self, retrained_copy: Path) -> None:
        """So it is what was trained, to the type of each value."""
        recorded = read_recorded(StudyFiles(Path(), "tiny"))
        assert recorded is not None
        known = tracking_of(retrained_copy).logged_runs("tiny/final")

        for one in read(retrained_copy).runs:
            assert one.plan is not None
            named_by = (one.plan.dataset, one.plan.model, one.plan.loss, one.plan.method.optimizer)
            sources = {
                name: digest
                for part in named_by
                for name, digest in recorded.fingerprint["sources"][part].items()
            }
            assert run_key(one.plan, torch.__version__, sources) == known[named(one)].key

    def test_a_search_has_its_trials_finalists_and_space(self, retrained_copy: Path) -> None:
        sgd, unreliable = read(retrained_copy).searches

        for one in (sgd, unreliable):
            space = load_space(one.optimizer, Path())
            assert typed(one.space) == typed(_without_folder(space))
            assert one.study == "tiny"
            assert [trial.number for trial in one.trials] == [0, 1]
            assert {"trials": 2, "tune_epochs": 3, "finalists": 2, "seed": 0}.items() <= one.settings.items()
            assert one.best in one.trials
        assert [trial.state for trial in unreliable.trials] == ["failed", "completed"]
        assert unreliable.finalists == ()
        kept = json.loads(Path("tuning/best/tiny/sgd.json").read_text())
        assert [
            {"trial": f.trial, "seeds": [*f.seeds], "scores": [*f.scores], "mean": f.mean("accuracy")}
            for f in sgd.finalists
        ] == kept["finalists"]
        assert sgd.gradient_work == kept["gradient_work"]

    @pytest.mark.parametrize(
        ("name", "lost", "without"),
        [
            ("plan.json", "plan", None),
            ("epochs.json", "epochs", ()),
            ("predictions.npz", "predictions", None),
            ("eigen.npz", "trace", None),
            ("analysis.npz", "curvature", None),
        ],
    )
    def test_a_run_that_lacks_a_file_lacks_that_alone(
        self, name: str, lost: str, without: Any, retrained_copy: Path
    ) -> None:
        (files_of(retrained_copy, "sgd/seed-1") / name).unlink()

        found = {named(one): one for one in read(retrained_copy).runs}

        missing = {
            run: [
                field.name
                for field in fields(one)
                if (value := getattr(one, field.name)) is None or value == ()
            ]
            for run, one in found.items()
        }
        assert missing == {run: [lost] if run == "sgd/seed-1" else [] for run in found}
        assert getattr(found["sgd/seed-1"], lost) == without

    def test_runs_and_searches_whose_files_are_gone_leave_the_numbers_of_mlflow(
        self, retrained_copy: Path
    ) -> None:
        numbers = [one.run for one in read(retrained_copy).runs]
        shutil.rmtree(retrained_copy / "mlruns" / "artifacts")

        found = read(retrained_copy)

        assert found.runs == tuple(RunEvidence(run, lost=True) for run in numbers)
        assert found.searches == ()

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"no": 1}', b"PK\x03\x04"])
    @pytest.mark.parametrize(
        "name", ["plan.json", "epochs.json", "predictions.npz", "eigen.npz", "analysis.npz"]
    )
    def test_a_run_without_checksums_and_with_a_damaged_file_is_named_and_left_out(
        self, name: str, content: bytes, retrained_copy: Path
    ) -> None:
        studies.drop_checksums(retrained_copy)
        (files_of(retrained_copy, "sgd/seed-1") / name).write_bytes(content)

        found = read(retrained_copy)

        [damage] = found.damaged
        assert damage.subject == "tiny/sgd/seed-1"
        assert re.match(rf"its file {name}(: \S+)? is \S", damage.problem)
        assert "\n" not in str(damage)
        assert found.excluded == {"damaged": 1}
        assert [named(one) for one in found.runs] == ["sgd/seed-0", "unreliable/seed-0", "unreliable/seed-1"]

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda _: b"", "is damaged (it is not JSON: "),
            (lambda _: b"[]", "is []; it must be an object"),
            (lambda _: b'{"study": "tiny"}', ": searched is None; it must be an object"),
            (lambda data: data.replace(b'"gradient_work"', b'"work"', 1), ": trials[0].work is unknown"),
            (
                lambda data: data.replace(b'"objective": "accuracy"', b'"objective": 3', 1),
                ": objective is 3; ",
            ),
            (lambda data: data.replace(b'"sgd.toml"', b"null"), ": space.source is None; it must be a path"),
        ],
    )
    def test_a_search_without_checksums_and_with_a_damaged_file_is_named_with_the_field_and_left_out(
        self, damage: Callable[[bytes], bytes], said: str, retrained_copy: Path
    ) -> None:
        studies.drop_checksums(retrained_copy)
        for path in (retrained_copy / "mlruns" / "artifacts").rglob("search.json"):
            path.write_bytes(damage(path.read_bytes()))

        found = read(retrained_copy)

        assert found.damaged[0].subject in ("the search tiny/sgd", "the search tiny/unreliable")
        assert found.damaged[0].problem.startswith(
            f"its file search.json{'' if said[0] == ':' else ' '}{said}"
        )
        assert found.excluded == {"damaged searches": len(found.damaged)}
        assert len(found.runs) == 4
