"""A data set is found by its name, the user's own included."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optstudy.errors import UsageError
from optstudy.workloads.datasets import load

DATA = """
import torch
from optstudy.data import Dataset

def load():
    return Dataset(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]), torch.rand(2, 3), torch.tensor([1, 0]), ("a", "b"))

def other():
    return torch.rand(4, 3), torch.tensor([0, 1, 0, 1])

def wrong():
    return Dataset(torch.rand(4, 3), torch.tensor([0]), torch.rand(2, 3), torch.tensor([1, 0]), ("a", "b"))

def absent():
    return torch.load("absent.pt")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with the user's file, and forget afterwards what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = sys.modules.get("mydata")
    (tmp_path / "mydata.py").write_text(DATA, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("mydata", None)
    assert before is None


def test_a_users_data_set_is_loaded_once_a_process() -> None:
    found = load("mydata.py:load")

    assert found.classes == ("a", "b")
    assert load("mydata.py:load") is found


def test_equal_names_in_two_folders_are_two_data_sets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("mydata.py:load")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "mydata.py").write_text(DATA, encoding="utf-8")
    monkeypatch.chdir(folder / "elsewhere")

    assert load("mydata.py:load") is not first


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mnits", "'mnits' is not a data set (did you mean 'mnist'?)"),
        ("cifar", "did you mean 'cifar10'?"),
        ("imagenet", "; there are mnist, fashion-mnist, cifar10, or your own function as data.py:load"),
        ("mydata.py", "as in mydata.py:make"),
        ("mydta.py:load", "did you mean 'mydata.py'?"),
        ("mydata.py:laod", "did you mean 'load'?"),
        ("mydata.py:other", "mydata.py:other returned an object of type tuple, not an optstudy.Dataset"),
        (
            "mydata.py:wrong",
            "mydata.py:12: train_x has 4 examples and train_y 1 labels; give one label for each",
        ),
        ("mydata.py:absent", "mydata.py:15: FileNotFoundError: "),
    ],
)
def test_an_unknown_or_failing_data_set_is_a_one_line_error(reference: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        load(reference)

    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
