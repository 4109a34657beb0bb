"""The files of a study in its workspace, and its lock."""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from optstudy.errors import OptstudyError, UsageError, suggestion
from optstudy.records.forms import FormError, from_form
from optstudy.records.io import read_sealed, write_sealed, writing
from optstudy.records.location import study_names
from optstudy.records.naming import check_name
from optstudy.study.keys import KEYS
from optstudy.study.specification import Specification


@dataclass(frozen=True)
class StudyFiles:
    """Paths of one study inside a workspace."""

    workspace: Path
    name: str

    def __post_init__(self) -> None:
        check_name("study", self.name)

    @property
    def folder(self) -> Path:
        """Folder of the files that are written while the study runs."""
        return self.workspace / "tuning" / "studies" / self.name

    @property
    def specification(self) -> Path:
        """File of the study's specification, fingerprint and started phases."""
        return self.folder / "specification.json"

    @property
    def rungs(self) -> Path:
        """Folder of the trained rungs of trials and final runs."""
        return self.folder / "rungs"

    @property
    def journal(self) -> Path:
        """Optuna's journal, for dashboards."""
        return self.folder / "optuna.log"

    @property
    def bests(self) -> Path:
        """Folder of the configurations that the searches selected."""
        return self.workspace / "tuning" / "best" / self.name

    def best(self, optimizer: str) -> Path:
        """File of the configuration that the search selected."""
        return self.bests / f"{optimizer}.json"


@dataclass(frozen=True)
class RecordedStudy:
    """A study as recorded on disk."""

    specification: Specification
    fingerprint: dict[str, Any]  # spaces, source files and versions, which must not change either
    started_phases: tuple[str, ...]  # "tuning", "training"
    has_checksum: bool = True  # false if the file was written before there were checksums


@dataclass(frozen=True)
class _StudyForm:
    """A study's specification as it is stored."""

    specification: dict[str, Any]
    facts: dict[str, Any]
    begun: tuple[Literal["tuning", "training"], ...]


_FACTS: Mapping[str, Any] = {  # types of the parts of a fingerprint
    "spaces": dict[str, dict[str, Any]],
    "sources": dict[str, dict[str, str]],
    "versions": dict[str, str],
    "data": dict[str, str],
    "specification": str,
    "tracking": str,
    "accepted": tuple[dict[str, Any], ...],
}


class ChangedStudyError(UsageError):
    """A setting, file or version that a study's results depend on has changed."""

    def __init__(self, files: StudyFiles, difference: str, remedy: str = "") -> None:
        """Describe the difference and its remedy; ``files`` are the study's, and ``free_name`` is an unused name."""
        self.files, self.free_name = files, free_name(files)
        super().__init__(
            f"study {files.name!r} was started with {difference}; its results would not be comparable:"
            f" {f'{remedy}, or ' if remedy else ''}use another name, such as --study {self.free_name}"
        )


def read_recorded(files: StudyFiles) -> RecordedStudy | None:
    """Read a study from its workspace; None if it is new."""
    path = files.specification
    if not path.parent.is_dir():  # missing, or a file, which the lock of the study reports
        return None
    try:
        content, has_checksum = read_sealed(path)
        form = from_form(_StudyForm, content, str(path))
        _check_facts(form.facts, f"{path}: facts")
        specification = Specification.from_keys(form.specification)
        return RecordedStudy(specification, form.facts, form.begun, has_checksum=has_checksum)
    except FileNotFoundError:
        return None
    except OptstudyError as error:
        where = "" if isinstance(error, FormError) else f"{path}: "
        raise OptstudyError(
            f"{where}{error}; move it away and repeat the command that began the study, with the same settings:"
            " it finds the finished runs"
        ) from error


def _check_facts(facts: Mapping[str, Any], where: str) -> None:
    """Raise FormError if a part of a fingerprint has the wrong type."""
    for name, value in facts.items():
        if name not in _FACTS:
            raise FormError(f"{where} has {name!r}, which is unknown{suggestion(name, _FACTS)}")
        from_form(_FACTS[name], value, f"{where}.{name}")
    for name, space in facts.get("spaces", {}).items():
        searched = f"{where}.spaces.{name}.search"
        for item in from_form(tuple[dict[str, Any], ...], space.get("search"), searched):
            from_form(str, item.get("name"), f"{searched}: name")
    for accepted in facts.get("accepted", ()):
        from_form(dict[str, dict[str, str]], accepted.get("sources"), f"{where}.accepted: sources")
        from_form(tuple[str, ...], accepted.get("keys"), f"{where}.accepted: keys")


def write_recorded(files: StudyFiles, recorded: RecordedStudy) -> None:
    """Write a study to its workspace."""
    keys = recorded.specification.to_keys()
    write_sealed(
        files.specification,
        {"specification": keys, "facts": recorded.fingerprint, "begun": recorded.started_phases},
    )


def merge(files: StudyFiles, old: RecordedStudy, changes: Mapping[str, Any]) -> Specification:
    """Return a study's specification, updated with the requested settings.

    Keys of phases that have not started may change. Optimizers, configs, trials and seeds can only grow.

    Raises:
        ChangedStudyError: If anything else differs.
    """
    recorded = old.specification.to_keys()
    now = dict(changes)
    for key, value in changes.items():
        before = recorded[key]
        if key in ("optimizers", "configs"):
            now[key] = (*before, *(item for item in value if item not in before))
        elif value == before or _may_change(key, old.started_phases):
            continue
        elif KEYS[key].grows:
            now[key] = max(before, value)
        else:
            raise ChangedStudyError(files, f"{key} {before}, not {value}")
    return Specification.from_keys(recorded | now)


def _may_change(key: str, started_phases: Sequence[str]) -> bool:
    """Whether the phase of a key has not started yet; keys of no phase never change."""
    phase = {"tuning": "tuning", "training": "training", "curvature": "training"}.get(KEYS[key].group)
    return phase is not None and phase not in started_phases


def free_name(files: StudyFiles) -> str:
    """Return a study name that is not used in the workspace."""
    stem = re.sub(r"-\d+$", "", files.name)
    taken = set(study_names(files.workspace))
    return next(name for i in range(2, len(taken) + 3) if (name := f"{stem}-{i}") not in taken)


@contextlib.contextmanager
def locked(files: StudyFiles) -> Iterator[None]:
    """Lock the study against a second driver; the lock is released when the process ends, even after a crash.

    Raises:
        UsageError: If another process runs the study.
        OptstudyError: If the folder cannot be written.
    """
    path = files.folder / "lock"
    with writing(path, "choose another --workspace"):
        files.folder.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+b", buffering=0)
    with handle:
        try:
            _lock(handle)
        except BlockingIOError:
            raise _is_running(files, path) from None
        except OSError as error:  # some network file systems have no locks
            raise OptstudyError(
                f"cannot lock {path}: {error.strerror}; choose a --workspace on a file system with locks"
            ) from error
        with writing(path):
            handle.truncate(0)
            handle.write(str(os.getpid()).encode())
            os.fsync(handle.fileno())  # on a network file system an error could be left to the end
        yield


def check_not_running(files: StudyFiles) -> None:
    """Check that no process runs the study.

    Raises:
        UsageError: If one does.
    """
    path = files.folder / "lock"
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _is_running(files, path) from None
    except OSError:
        return  # no lock, or a file system without locks, where no study runs


def _lock(handle: FileIO) -> None:
    """Lock a file; `check_not_running` may hold its lock for a moment."""
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.05)
    return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_running(files: StudyFiles, lock: Path) -> UsageError:
    holder = lock.read_bytes().decode(errors="replace").strip() or "unknown"
    return UsageError(
        f"study {files.name!r} is being run by process {holder}; wait for it or use another --study"
    )
