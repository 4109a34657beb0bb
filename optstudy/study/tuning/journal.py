"""An Optuna journal of finished trials, for dashboards; never read back."""

import itertools
import json
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optstudy.records.io import writing


def mirror(study: optuna.Study, name: str, path: Path) -> None:
    """Append a study's newly finished trials to a journal.

    Raises:
        UnwrittenError: If it cannot be written.
    """
    with writing(path):
        _mirror(study, name, path)


def _mirror(study: optuna.Study, name: str, path: Path) -> None:
    if path.exists() and not _is_intact(path):  # the driver was killed while writing, or the disk was full
        _rename_damaged(path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    direction = study.direction
    copy = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    copied = len(copy.get_trials(deepcopy=False))
    copy.add_trials(
        [trial for trial in study.get_trials() if trial.number >= copied and trial.state.is_finished()]
    )


def _is_intact(journal: Path) -> bool:
    *lines, rest = journal.read_bytes().split(b"\n")
    try:
        for line in lines:
            json.loads(line)
    except ValueError:
        return False
    return not rest


def _rename_damaged(journal: Path) -> None:
    names = (journal.with_name(f"{journal.name}.damaged-{number}") for number in itertools.count(1))
    journal.rename(next(name for name in names if not name.exists()))
