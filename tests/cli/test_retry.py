"""After a refusal the same command is printed with a study name that is free."""

import sys
from pathlib import Path

import pytest

from optstudy.cli.retry import command_with_free_name
from optstudy.errors import UsageError
from optstudy.study.workspace import ChangedStudyError, StudyFiles


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (["study", "--study", "mine", "--trials", "3"], "optstudy study --trials 3 --study mine-2"),
        (["study", "--study=mine", "--opt", "sgd"], "optstudy study --opt sgd --study mine-2"),
        (["train", "--accept-source", "loss.py", "--accept-source=net.py"], "optstudy train --study mine-2"),
        (["tune", "--model", "my net.py:make"], "optstudy tune --model 'my net.py:make' --study mine-2"),
    ],
)
def test_the_same_command_gets_another_study_name(
    arguments: list[str], same: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["optstudy", *arguments])

    assert command_with_free_name(ChangedStudyError(StudyFiles(tmp_path, "mine"), "trials 2, not 3")) == same


def test_another_error_has_no_command(tmp_path: Path) -> None:
    assert command_with_free_name(UsageError("no")) is None
