"""An Optuna journal of finished trials, for dashboards; no search reads it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optstudy.errors import one_line
from optstudy.records.io import read_bytes, set_aside, writing
from optstudy.study.events import Notice


class Journal:
    """The journal of a study's searches. Its file is read once, before the first trial is mirrored."""

    def __init__(self, path: Path) -> None:
        """Describe the journal in a file, which need not exist."""
        self._path = path
        self._storage: JournalStorage | None = None
        self._copies: dict[str, optuna.Study] = {}  # in the journal, by name
        self._mirrored: dict[str, int] = {}  # number of trials in each copy

    def check(self) -> Iterator[Notice]:
        """Rename a damaged journal, so that a new one is written, and report it."""
        if self._storage is not None:
            return
        # Left by a driver that was killed while writing: Optuna would wait for it for ever.
        lock = self._path.with_name(f"{self._path.name}.lock")
        with writing(lock):
            lock.unlink(missing_ok=True)
        if not os.path.lexists(self._path):
            return
        data = read_bytes(self._path) if self._path.is_file() else b""
        try:
            _check_lines(data)
            storage = JournalStorage(JournalFileBackend(str(self._path)))
            storage.get_all_studies()
        except Exception as error:  # noqa: BLE001  # Optuna raises exceptions of many kinds
            kept = set_aside(self._path)
            yield Notice(
                f"{self._path} is damaged ({one_line(error)}); it is kept as {kept.name} and written anew"
            )
        else:
            self._storage = storage

    def mirror(self, study: optuna.Study) -> None:
        """Append a study's newly finished trials.

        Raises:
            UnwrittenError: If they cannot be written.
        """
        with writing(self._path):
            self._mirror(study)

    def _mirror(self, study: optuna.Study) -> None:
        name = study.study_name
        if name not in self._copies:
            self._copies[name] = self._copy(study)
            self._mirrored[name] = len(self._copies[name].get_trials(deepcopy=False))
        for trial in study.get_trials(deepcopy=False)[self._mirrored[name] :]:
            if trial.state.is_finished():
                self._copies[name].add_trial(trial)
                self._mirrored[name] += 1

    def _copy(self, study: optuna.Study) -> optuna.Study:
        if self._storage is None:
            self._storage = JournalStorage(JournalFileBackend(str(self._path)))
        return optuna.create_study(
            study_name=study.study_name,
            storage=self._storage,
            direction=study.direction,
            load_if_exists=True,
        )


def _check_lines(journal: bytes) -> None:
    """Raise ValueError for a torn line, which the driver leaves if it is killed while writing."""
    *lines, rest = journal.split(b"\n")
    for line in lines:
        json.loads(line)
    if rest:
        raise ValueError("its last line is torn")
