"""An Optuna journal of finished trials, for dashboards; never read back."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optstudy.errors import one_line
from optstudy.records.io import set_aside, writing
from optstudy.study.events import Notice


def check_journal(path: Path) -> Iterator[Notice]:
    """Rename a damaged journal, so that a new one is written, and report it."""
    if not os.path.lexists(path):
        return
    try:
        _check_lines(path)
        _storage(path).get_all_studies()
    except Exception as error:  # noqa: BLE001  # Optuna raises exceptions of many kinds
        kept = set_aside(path)
        yield Notice(f"{path} is damaged ({one_line(error)}); it is kept as {kept.name} and written anew")


def mirror(study: optuna.Study, name: str, path: Path) -> None:
    """Append a study's newly finished trials to a journal that `check_journal` has found whole.

    Raises:
        UnwrittenError: If it cannot be written.
    """
    with writing(path):
        storage, direction = _storage(path), study.direction
        copy = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
        copied = len(copy.get_trials(deepcopy=False))
        copy.add_trials(
            [trial for trial in study.get_trials() if trial.number >= copied and trial.state.is_finished()]
        )


def _storage(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def _check_lines(journal: Path) -> None:
    """Raise ValueError for a torn line, which the driver leaves if it is killed while writing."""
    *lines, rest = journal.read_bytes().split(b"\n")
    for line in lines:
        json.loads(line)
    if rest:
        raise ValueError("its last line is torn")
