"""A study notices when what its results rest on has changed: spaces, the user's files, versions."""

import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from optstudy.execution.environment import gather_provenance
from optstudy.optimizers import load_space
from optstudy.records.space import Space
from optstudy.study.fingerprint import check_fingerprint
from optstudy.study.specification import Specification
from optstudy.study.workspace import ChangedStudyError, RecordedStudy, StudyFiles
from optstudy.workloads.user_code import sources

SPECIFICATION = Specification.from_keys(
    {"dataset": "images.py:load", "model": "net.py:make", "optimizers": ("unreliable",)}
)


def fingerprint_of(workspace: Path, before: dict[str, Any] | None, *optimizers: str) -> dict[str, Any]:
    """Check the fingerprint of a study with the optimizer unreliable and others, after what was recorded before."""
    spaces = {name: load_space(name, workspace) for name in ("unreliable", *optimizers)}
    recorded = None if before is None else RecordedStudy(SPECIFICATION, before, ("tuning",))
    return check_fingerprint(
        StudyFiles(workspace, "mine"), recorded, SPECIFICATION, spaces, gather_provenance().versions
    )


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_what_has_not_changed_is_accepted(user_files: Path) -> None:
    before = fingerprint_of(user_files, None)

    assert fingerprint_of(user_files, copy.deepcopy(before)) == before


@pytest.mark.parametrize("name", ["images.py", "net.py", "unreliable.py"])
def test_an_edited_file_is_named(name: str, user_files: Path) -> None:
    before = fingerprint_of(user_files, None)
    with (user_files / name).open("a") as file:
        file.write("# one line more")

    with pytest.raises(ChangedStudyError, match=rf"^study 'mine' was started with a different {name}; "):
        fingerprint_of(user_files, before)


def test_an_edited_file_that_a_file_imports_is_named(user_files: Path) -> None:
    edit(user_files / "net.py", "from torch", "import width\nfrom torch")
    (user_files / "width.py").write_text("WIDTH = 16")
    before = fingerprint_of(user_files, None)
    (user_files / "width.py").write_text("WIDTH = 32")

    with pytest.raises(ChangedStudyError, match=r"^study 'mine' was started with a different width\.py; "):
        fingerprint_of(user_files, before)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("high = 0.5", "high = 0.9", "search"),
        ("[paper]\nlr = 0.1", "[paper]\nlr = 0.2", "paper"),
        ("[default]\nlr = 0.1", "[default]\nlr = 0.2", "default"),
    ],
)
def test_a_changed_space_is_named_with_what_differs(old: str, new: str, said: str, user_files: Path) -> None:
    before = fingerprint_of(user_files, None)
    edit(user_files / "tuning" / "spaces" / "unreliable.toml", old, new)

    with pytest.raises(
        ChangedStudyError, match=rf"started with a different space of unreliable \({said} differ\); "
    ):
        fingerprint_of(user_files, before)


@pytest.mark.parametrize(
    ("old", "new", "entries"),
    [
        ("high = 0.5", "high = 0.9", "[search.lr] high = 0.5"),
        ('choices = ["works", "raises"]', 'choices = ["raises", "works", "other"]', '["works", "raises"]'),
        ("[default]\nlr = 0.1", "[default]\nlr = 0.2", "[default] lr = 0.1"),
        ("[search.lr]", "[fixed]\nmomentum = 0.9\n[search.lr]", "no [fixed] momentum"),
        ("log = true", "log = false", "[search.lr] log = true"),
    ],
)
def test_a_changed_space_says_what_to_restore_and_where(
    old: str, new: str, entries: str, user_files: Path
) -> None:
    before = fingerprint_of(user_files, None)
    edit(user_files / "tuning" / "spaces" / "unreliable.toml", old, new)
    if "momentum" in new:
        edit(user_files / "unreliable.py", "lr, mode):", "lr, mode, momentum=0):")
        before["sources"]["unreliable.py:Unreliable"] = sources("unreliable.py:Unreliable")

    with pytest.raises(ChangedStudyError) as raised:
        fingerprint_of(user_files, before)

    restored = str(raised.value).partition("comparable: restore ")[2]
    assert entries in restored
    assert (
        " in tuning/spaces/unreliable.toml, or use another name, such as --study mine-2"
        in restored.replace(f"{user_files}/", "")
    )


def test_an_optimizer_that_does_not_run_is_neither_checked_nor_forgotten(user_files: Path) -> None:
    before = fingerprint_of(user_files, None, "sgd")
    edit(user_files / "tuning" / "spaces" / "unreliable.toml", "high = 0.5", "high = 0.9")
    edit(user_files / "unreliable.py", "no step", "no such step")
    spaces = {"sgd": load_space("sgd", user_files)}

    now = check_fingerprint(
        StudyFiles(user_files, "mine"),
        RecordedStudy(SPECIFICATION, before, ("tuning",)),
        SPECIFICATION,
        spaces,
        gather_provenance().versions,
    )

    assert now == before


def test_a_better_reason_for_a_range_changes_no_study(user_files: Path) -> None:
    before = fingerprint_of(user_files, None)
    edit(
        user_files / "tuning" / "spaces" / "unreliable.toml", "From no progress to the edge.", "Four decades."
    )

    assert fingerprint_of(user_files, before) == before


def test_how_an_optimizer_looks_may_change(user_files: Path) -> None:
    before = fingerprint_of(user_files, None)
    looks = 'label = "Unreliable"\ncolour = "#112233"\nstyle = ":D"\ncite = "unreliable2026"\n'
    file = user_files / "tuning" / "spaces" / "unreliable.toml"
    file.write_text(looks + file.read_text())

    assert fingerprint_of(user_files, before) == before


@pytest.mark.parametrize("library", ["torch", "optuna"])
def test_another_version_of_what_makes_the_numbers_is_refused(library: str, user_files: Path) -> None:
    before = fingerprint_of(user_files, None)
    now = before["versions"][library]
    before["versions"][library] = "0.1"

    with pytest.raises(ChangedStudyError, match=rf"started with {library} 0\.1, not {now}; "):
        fingerprint_of(user_files, before)


def test_another_version_of_optstudy_itself_is_accepted(user_files: Path) -> None:
    before = fingerprint_of(user_files, None)
    before["versions"]["optstudy"] = "0.0.1"

    assert fingerprint_of(user_files, before)["versions"]["optstudy"] != "0.0.1"


def test_an_optimizer_joins_what_is_recorded_and_none_leaves(user_files: Path) -> None:
    before = fingerprint_of(user_files, None)
    joined = fingerprint_of(user_files, before, "sgd")

    assert set(joined["spaces"]) == {"unreliable", "sgd"}
    assert fingerprint_of(user_files, joined) == joined
    assert joined["sources"] == before["sources"] | {"torch.optim.SGD": {}}


def test_the_free_name_is_offered(user_files: Path) -> None:
    before = fingerprint_of(user_files, None)
    edit(user_files / "net.py", "16", "32")

    with pytest.raises(ChangedStudyError) as raised:
        fingerprint_of(user_files, before)

    assert raised.value.free_name == "mine-2"
    assert str(raised.value).endswith("use another name, such as --study mine-2")


def test_a_later_field_of_a_space_is_part_of_it_only_where_it_is_set(
    user_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class LaterSpace(Space):
        warm_up: int = 0

    def fingerprint(warm_up: int) -> dict[str, Any]:
        later = LaterSpace(**vars(load_space("unreliable", user_files)), warm_up=warm_up)
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[__name__], "load_space", lambda *_: later)
            return fingerprint_of(user_files, before)

    before = fingerprint_of(user_files, None)

    assert fingerprint(warm_up=0) == before
    with pytest.raises(ChangedStudyError, match=r"a different space of unreliable \(warm_up differ\)"):
        fingerprint(warm_up=5)
