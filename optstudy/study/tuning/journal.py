"""An Optuna journal of finished trials, for dashboards; never read back."""

import itertools
import json
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def mirror(study: optuna.Study, name: str, path: Path) -> None:
    """Append the trials of a study that have finished since the last call."""
    if path.exists() and not _is_whole(path):  # a driver was killed while writing, or a disk was full
        _set_aside(path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    direction = study.direction
    copy = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    copied = len(copy.get_trials(deepcopy=False))
    copy.add_trials(
        [trial for trial in study.get_trials() if trial.number >= copied and trial.state.is_finished()]
    )


def _is_whole(journal: Path) -> bool:
    *lines, rest = journal.read_bytes().split(b"\n")
    try:
        for line in lines:
            json.loads(line)
    except ValueError:
        return False
    return not rest


def _set_aside(journal: Path) -> None:
    names = (journal.with_name(f"{journal.name}.damaged-{number}") for number in itertools.count(1))
    journal.rename(next(name for name in names if not name.exists()))
