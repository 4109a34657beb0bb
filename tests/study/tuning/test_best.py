"""The files of best configurations: those of today are read and left alone, others are one line."""

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import cases
import pytest

from optstudy.errors import OptstudyError
from optstudy.optimizers import load_space
from optstudy.records.provenance import Provenance
from optstudy.records.search import Finalist, SearchResult, Trial
from optstudy.study.context import Context
from optstudy.study.events import Notice
from optstudy.study.tuning.best import previous_best, read_best, read_best_file, write_best
from optstudy.study.workspace import StudyFiles

PUBLISHED = ("mnist", "mnist-seed-1", "mnist-seed-2")  # beside them lies what a user's own studies chose
COMMITTED = [
    path
    for study in PUBLISHED
    for path in sorted((Path(__file__).parents[3] / "tuning" / "best" / study).glob("*.json"))
]
SGD = load_space("sgd", cases.HERE)


@dataclasses.dataclass
class Told:
    """What is asked of a context where a best configuration is written."""

    files: StudyFiles
    provenance: Provenance


def search_behind(content: dict[str, Any]) -> SearchResult:
    """Return a search that chooses what a file says."""
    config, work = content["config"], content["gradient_work"]
    best = Trial(content["trial"], config, "completed", content["score"], (), content["epochs"], work)
    trials = [
        best if number == best.number else dataclasses.replace(best, number=number, gradient_work=0)
        for number in range(content["trials"])
    ]
    finalists = tuple(
        Finalist(one["trial"], tuple(one["seeds"]), tuple(one["scores"]), 0)
        for one in content.get("finalists", ())  # absent where the best score decided at once
    )
    return SearchResult(
        study="mnist",
        space=load_space(content["optimizer"], cases.HERE),
        objective=content["objective"].removeprefix("validation "),
        trials=tuple(trials),
        best=best,
        finalists=finalists,
        settings={"tune_epochs": content["epochs"], "seed": content["seed"]},
    )


def rewritten(path: Path, **changes: Any) -> list[str]:
    """Write what a search chose again; return what is told."""
    previous = read_best_file(path)
    content = previous.content
    search = dataclasses.replace(search_behind(content), **changes)
    files = StudyFiles(path.parents[3], path.parent.name)
    context = cast(Context, Told(files, Provenance(content["versions"], {"commit": "another"})))
    return [cast(Notice, event).text for event in write_best(context, search, previous)]


def copied(path: Path, folder: Path) -> Path:
    copy = folder / "tuning" / "best" / path.parent.name / path.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_committed_file_is_read_and_where_nothing_changed_it_gets_a_checksum_once(
    path: Path, tmp_path: Path
) -> None:
    copy = copied(path, tmp_path)
    space = load_space(path.stem, cases.HERE)

    assert (
        read_best(StudyFiles(tmp_path, path.parent.name), path.stem, space)
        == (json.loads(path.read_text())["config"])
    )
    assert rewritten(copy) == []
    assert read_best_file(copy) == (json.loads(path.read_text()), True)
    written = copy.stat().st_mtime_ns
    assert rewritten(copy) == []
    assert copy.stat().st_mtime_ns == written


def test_another_best_trial_is_written_with_a_notice(tmp_path: Path) -> None:
    path = copied(COMMITTED[0], tmp_path)
    before = read_best_file(path).content
    best = Trial(0, {**before["config"], "lr": 0.5}, "completed", 0.9, (), before["epochs"], 1)

    [told] = rewritten(path, best=best, finalists=())

    after, has_checksum = read_best_file(path)
    assert has_checksum
    assert (after["trial"], after["config"], after["score"]) == (0, best.params, 0.9)
    assert "finalists" not in after
    assert list(after) == [name for name in before if name != "finalists"]
    assert told.startswith(
        f"{before['optimizer']}: trial 0 is now the best; previously it was trial {before['trial']}"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", " is damaged (it is not JSON: "),
        ("[" * 100_000, " is damaged (it is nested too deeply)"),
        ("[]", " is []; it must be an object; "),
        ('{"trial": 3}', ": config is None; it must be an object; "),
        ('{"config": [1]}', ": config is [1]; it must be an object; "),
        ('{"config": {"lr": [0.1]}}', ": config: lr is [0.1]; it must be "),
        ('{"config": {"lr": NaN}}', " is damaged (it is not JSON: "),
        ('{"config": {}, "score": "high"}', ": score is 'high'; it must be a number; "),
        ('{"config": {}, "trial": 1.5}', ": trial is 1.5; it must be a whole number; "),
        ('{"config": {"lr": 0.5}, "checksum": "0"}', " does not agree with its checksum: "),
        ('{"config": {"lr": 0.1}}', ": "),
    ],
)
def test_a_value_of_a_wrong_kind_is_one_line_with_file_and_name(
    content: str, said: str, tmp_path: Path
) -> None:
    files = StudyFiles(tmp_path, "mine")
    path = files.best("sgd")
    path.parent.mkdir(parents=True)
    path.write_text(content)

    with pytest.raises(OptstudyError) as raised:
        read_best(files, "sgd", SGD)

    assert str(raised.value).startswith(f"{path}{said}")
    own = ", or remove its checksum to use its values" * ("checksum" in content)
    assert str(raised.value).endswith(f"; `optstudy tune --study mine --opt sgd` writes it again{own}")
    assert "\n" not in str(raised.value)


def test_a_damaged_file_is_kept_under_another_name_by_the_search_that_writes_it_again(tmp_path: Path) -> None:
    path = copied(COMMITTED[0], tmp_path)
    path.write_text("{")

    flow = previous_best(path)
    told = next(flow)

    assert cast(Notice, told).text.startswith(f"{path} is damaged (")
    assert path.with_name(f"{path.name}.damaged-1").read_text() == "{"
    assert not path.exists()
