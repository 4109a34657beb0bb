"""How optimizers look: from space files, from recorded searches, or chosen by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from optstudy.errors import UsageError
from optstudy.optimizers import find_spaces, load_space, packaged_optimizers, read_looks
from optstudy.records.look import PLAIN, Look, Looks, derive_look
from optstudy.records.naming import RowKey

NOWHERE = Path("no-such-workspace")
SAID = Look("Said", "#123456", ":D", "said2026")


def workspace(folder: Path, name: str, keys: str) -> Path:
    """Return a workspace with a space file of its own, a packaged one's with other looks."""
    file = folder / "tuning" / "spaces" / f"{name}.toml"
    file.parent.mkdir(parents=True)
    packaged = find_spaces(NOWHERE)["sgd"].read_text().splitlines()
    looks = ("label", "colour", "style", "cite")
    file.write_text("\n".join([keys, *(line for line in packaged if not line.startswith(looks))]))
    return folder


def test_the_packaged_spaces_are_parsed_once() -> None:
    assert "torch.optim.SGD" in packaged_optimizers()
    assert packaged_optimizers() is packaged_optimizers()


def test_every_packaged_optimizer_has_a_look() -> None:
    names = list(find_spaces(NOWHERE))

    assert list(read_looks(names, NOWHERE)) == names
    assert all(look.cite and look != derive_look(name) for name, look in read_looks(names, NOWHERE).items())


def test_precedence_is_workspace_then_recorded_search_then_package(
    tmp_path: Path,
) -> None:
    own = workspace(tmp_path, "sgd", "label = 'Mine'")
    recorded = [replace(load_space("sgd", NOWHERE), label="RecordedStudy")]

    assert read_looks(["sgd"], NOWHERE)["sgd"].label == "SGD"
    assert read_looks(["sgd"], NOWHERE, recorded)["sgd"].label == "RecordedStudy"
    assert read_looks(["sgd"], own, recorded)["sgd"].label == "Mine"


def test_a_recorded_search_gives_a_look_without_a_space_file() -> None:
    recorded = replace(load_space("sgd", NOWHERE), name="lion", label="Lion", colour="#123456")

    assert read_looks(["lion"], NOWHERE, [recorded])["lion"].colour == "#123456"


def test_a_space_without_a_look_is_ignored(tmp_path: Path) -> None:
    own = workspace(tmp_path, "adam", "")
    recorded = [
        replace(load_space("sgd", NOWHERE), label="", colour="", style="", cite="")
    ]  # of another version

    assert read_looks(["adam"], own)["adam"].label == "Adam"
    assert read_looks(["sgd"], NOWHERE, recorded)["sgd"].label == "SGD"


def test_another_optimizers_malformed_file_does_not_matter(tmp_path: Path) -> None:
    own = workspace(tmp_path, "lion", "colour = 'red'")

    assert read_looks(["sgd"], own)["sgd"].label == "SGD"
    with pytest.raises(UsageError, match=r"lion\.toml: colour is 'red'; give a colour such as"):
        read_looks(["lion"], own)


def test_an_unknown_optimizer_is_labelled_by_its_name_and_a_run_without_one_is_black() -> None:
    assert Looks()["lion"] == derive_look("lion")
    assert Looks()["lion"].label == "lion"
    assert Looks()[""] == PLAIN


def test_a_row_is_named_by_its_optimizers_label_and_a_configuration_that_is_not_the_best() -> None:
    looks = Looks(said=SAID)

    assert [
        looks.row_label(RowKey("tiny", name, config))
        for name in ("said", "x")
        for config in ("best", "paper")
    ] == [
        "Said",
        "Said (paper)",
        "x",
        "x (paper)",
    ]
