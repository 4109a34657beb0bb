"""Remove a study: its experiments in MLflow, and its files in the workspace."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from optstudy.errors import OptstudyError, UsageError, suggestion
from optstudy.records.location import Location
from optstudy.study.status import recorded_uri
from optstudy.study.workspace import StudyFiles, locked
from optstudy.tracking import StoredExperiment, Tracking, embedded, open_existing


@dataclass(frozen=True)
class Folder:
    """A folder of the workspace, and what is in it."""

    path: Path
    files: int
    size: int  # bytes

    @classmethod
    def read(cls, path: Path) -> "Folder":
        """Count the files of a folder; links are not followed."""
        sizes = [file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or file.is_file()]
        return cls(path, len(sizes), sum(sizes))


@dataclass(frozen=True)
class Removal:
    """What goes when a study is removed."""

    study: str
    server: str  # of the experiments; "" for the workspace's own store
    experiments: tuple[StoredExperiment, ...]
    folders: tuple[Folder, ...]
    kept: tuple[Path, ...]  # folders that stay

    @property
    def runs(self) -> int:
        """Number of runs that go."""
        return sum(experiment.runs for experiment in self.experiments)


@contextlib.contextmanager
def removal(name: str, location: Location, *, best: bool) -> Iterator[tuple[Removal, Tracking | None]]:
    """Lock a study, and list what goes when it is removed; nothing is removed yet.

    Args:
        name: The study's name.
        location: Where it is stored.
        best: Whether the configurations that its searches selected go, too.

    Yields:
        What goes, and the MLflow store; None if there is none.

    Raises:
        UsageError: If there is no such study, it runs, or a folder lies outside of the workspace.
    """
    files, tracking = StudyFiles(location.workspace, name), _open(location)
    content = _list(files, tracking, best=best)
    if not (content.experiments or content.folders):
        raise UsageError(_unknown(files, tracking))
    _check_server(files, tracking)
    for folder in content.folders:
        _check_inside(folder.path, location.workspace)
    with locked(files) if files.folder.exists() else contextlib.nullcontext():
        yield content, tracking


def remove(content: Removal, tracking: Tracking | None) -> None:
    """Remove what `removal` has listed, the study's own folder last, so that it can be repeated if interrupted."""
    for experiment in content.experiments:
        assert tracking is not None
        tracking.remove_experiment(experiment)
    for folder in content.folders:
        try:
            shutil.rmtree(folder.path)
        except OSError as error:
            raise OptstudyError(
                f"cannot remove {error.filename or folder.path}: {error.strerror}; run the same command again"
            ) from error
        if folder.path.parents[1].name == "artifacts":  # STUDY/KIND
            with contextlib.suppress(OSError):
                folder.path.parent.rmdir()  # if it is empty


def _list(files: StudyFiles, tracking: Tracking | None, *, best: bool) -> Removal:
    experiments = tracking.stored_experiments(files.name) if tracking else []
    store = embedded.artifacts(files.workspace)
    locations = dict.fromkeys(found.folder for found in experiments if found.folder is not None)
    artifacts = [
        files.workspace / "mlruns" / "artifacts" / folder.relative_to(store)
        for folder in locations
        if folder.parent == store / files.name and folder.name != ".."
    ]
    folders = [*artifacts, *[files.bests] * best, files.folder]
    return Removal(
        files.name,
        tracking.server if tracking else "",
        tuple(experiment for experiment in experiments if not experiment.removed),
        tuple(Folder.read(folder) for folder in folders if _exists(folder)),
        () if best or not _exists(files.bests) else (files.bests,),
    )


def _open(location: Location) -> Tracking | None:
    return open_existing(location) if location.uri or embedded.database(location.workspace).exists() else None


def _check_server(files: StudyFiles, tracking: Tracking | None) -> None:
    recorded = recorded_uri(files.workspace, files.name)
    if recorded is not None and recorded != (tracking.server if tracking else ""):
        raise UsageError(
            f"study {files.name!r} is logged to {recorded or 'the workspace'};"
            f" {f'give --tracking-uri {recorded}' if recorded else 'give no --tracking-uri'} to remove its runs"
        )


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _check_inside(folder: Path, root: Path) -> None:
    """Raise UsageError if a link leads out of a folder's place below ``root``."""
    expected = Path(os.path.realpath(root)) / folder.relative_to(root)
    place = Path(os.path.realpath(folder))  # unlike `resolve`, also of a loop of links
    if place != expected or folder.is_symlink():
        raise UsageError(
            f"{folder} is a link to {place}, where nothing is removed;"
            " remove that folder and the link by hand, and run the same command again"
        )


def _unknown(files: StudyFiles, tracking: Tracking | None) -> str:
    folders = (files.workspace / "tuning" / "studies").glob("*/")
    experiments = tracking.stored_experiments() if tracking else []
    known = sorted(
        {folder.name for folder in folders}
        | {found.name.partition("/")[0] for found in experiments if not found.deleted}
    )
    there_are = f"; there are {', '.join(known)}" if known else ""
    return f"no study {files.name!r}{suggestion(files.name, known)}{there_are}"
