"""Cache of finished rungs on disk; its keys are hashes of everything that determines the results."""

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from optstudy.errors import OptstudyError, one_line
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import check_observations, trace_problem
from optstudy.records.forms import FormError, from_form, to_form
from optstudy.records.io import (
    Sealed,
    read_sealed,
    read_sealed_zip,
    set_aside,
    write_sealed,
    write_sealed_zip,
)
from optstudy.records.run import Rung
from optstudy.study.events import Notice, UncheckedFile
from optstudy.training.state import RunState

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """Seconds per step of a run, timed while the study's other workers are idle."""

    step_seconds: float  # mean
    steps: int  # number of timed steps
    timed_at: float  # Unix time

    def __post_init__(self) -> None:
        if not (0 < self.step_seconds < 1e9 and 0 <= self.timed_at < 1e12):  # noqa: PLR2004
            raise OptstudyError(
                f"step_seconds {self.step_seconds} and timed_at {self.timed_at} must be positive"
            )


@dataclass(frozen=True)
class Stored(Generic[T]):
    """What the cache has of a run: a rung, a state, a curvature or a pace."""

    path: Path
    content: T | None = None  # None if it is missing or damaged
    damage: str = ""  # what is wrong with a damaged file, which has been renamed
    has_checksum: bool = True  # false for a file that was written before there were checksums


def told(stored: Stored[T]) -> Generator[Notice | UncheckedFile, None, T | None]:
    """Return what is stored, and report if it is damaged or has no checksum."""
    if stored.damage:
        yield Notice(stored.damage)
    if not stored.has_checksum:
        yield UncheckedFile(stored.path)
    return stored.content


@dataclass(frozen=True)
class RunCache:
    """The cache of a study: histories, last state, final curvature and pace of each run.

    A damaged file is renamed, and what was in it counts as not stored.
    """

    folder: Path

    def read(self, key: str, until: int, predictions: int | None = None) -> Stored[Rung]:
        """Read the rung that ends with epoch ``until``; see `Rung.check` for ``predictions``."""
        return _stored(self._history(key, until), lambda path: _read_rung(path, until, predictions))

    def state(self, key: str, epoch: int) -> Stored[bytes]:
        """Read the state at the end of ``epoch``."""
        return _stored(self._state(key, epoch), _read_state)

    def has_state(self, key: str, epoch: int) -> bool:
        """Whether there is a state at the end of ``epoch``, which may be damaged."""
        return self._state(key, epoch).is_file()

    def write(self, key: str, until: int, rung: Rung, state: bytes | None) -> None:
        """Store a rung and its state, and delete earlier states; a failed rung has no state."""
        if state is not None:
            write_sealed_zip(self._state(key, until), state)
        write_sealed(self._history(key, until), to_form(rung))
        for epoch, older in self._files(key, "pt"):
            if epoch < until or state is None:
                older.unlink()

    def curvature(self, key: str) -> Stored[CurvatureResult]:
        """Read the curvature at the end of a run."""
        return _stored(self._curvature_file(key), _read_curvature)

    def write_curvature(self, key: str, data: bytes) -> None:
        """Store the curvature at the end of a run."""
        write_sealed_zip(self._curvature_file(key), data)

    def pace(self, key: str) -> Stored[Pace]:
        """Read the pace of a run."""
        return _stored(self._pace(key), _read_pace)

    def write_pace(self, key: str, pace: Pace) -> None:
        """Store the pace of a run."""
        write_sealed(self._pace(key), to_form(pace))

    def drop_state(self, key: str) -> None:
        """Delete the state of a run that will not continue."""
        for _, path in self._files(key, "pt"):
            path.unlink()

    def finished(self, *, measured: bool) -> frozenset[str]:
        """Return the keys of the runs that have nothing left to do.

        A trial has ended, or was pruned in a batch that has ended, and a final run has its trace and curvature as well.
        A run with a damaged file has not.

        Args:
            measured: Whether the study measures the curvature of its final runs.
        """
        keys = (path.name for path in self.folder.glob("*") if path.is_dir())
        return frozenset(key for key in keys if self._is_finished(key, measured=measured))

    def _is_finished(self, key: str, *, measured: bool) -> bool:
        try:
            rungs = [_read_rung(path, epoch).content for epoch, path in self._files(key, "json")]
            last = rungs[-1] if rungs else None
            if last is None:
                return False
            if last.outcome == "running":  # a trial that was pruned has no state
                return not any(self._files(key, "pt"))
            is_final = bool(last.epochs) and last.epochs[-1].exact_accuracy is not None
            if not is_final or not measured or last.outcome != "completed":
                return True
            if any(trace_problem(rung.observations) for rung in rungs):
                return False
            _read_curvature(self._curvature_file(key))
        except (OSError, FormError):
            return False
        return True

    def _files(self, key: str, kind: str) -> Iterator[tuple[int, Path]]:
        """Yield the files of a kind with the epochs at which they end, in order; other names are not the cache's."""
        paths = self._run(key).glob(f"*.{kind}")
        numbered = (path for path in paths if re.fullmatch(r"[0-9]{4,}", path.stem) and path.is_file())
        yield from sorted((int(path.stem), path) for path in numbered)

    def _run(self, key: str) -> Path:
        return self.folder / key

    def _history(self, key: str, until: int) -> Path:
        return self._run(key) / f"{until:04d}.json"

    def _curvature_file(self, key: str) -> Path:
        return self._run(key) / "analysis.npz"

    def _pace(self, key: str) -> Path:
        return self._run(key) / "pace.json"

    def _state(self, key: str, epoch: int) -> Path:
        return self._run(key) / f"{epoch:04d}.pt"


def _stored(path: Path, read: Callable[[Path], Sealed[T]]) -> Stored[T]:
    try:
        content, has_checksum = read(path)
    except FileNotFoundError:
        return Stored(path)
    except FormError as error:
        kept = set_aside(path if path.parent.is_dir() else path.parent)
        return Stored(path, damage=f"{error}; it is kept as {kept.name} and computed again")
    return Stored(path, content, has_checksum=has_checksum)


def _read_rung(path: Path, until: int, predictions: int | None = None) -> Sealed[Rung]:
    content, has_checksum = read_sealed(path)
    rung = from_form(Rung, content, str(path))
    try:
        rung.check(until, predictions)
        check_observations(rung.observations)
    except OptstudyError as error:
        raise FormError(f"{path}: {error}") from error
    return Sealed(rung, has_checksum)


def _read_state(path: Path) -> Sealed[bytes]:
    state = read_sealed_zip(path)
    if not state.has_checksum:
        try:
            RunState.from_bytes(state.content)
        except Exception as error:  # torch raises exceptions of many kinds
            raise FormError(f"{path} is damaged ({one_line(error)})") from error
    return state


def _read_curvature(path: Path) -> Sealed[CurvatureResult]:
    data, has_checksum = read_sealed_zip(path)
    try:
        return Sealed(CurvatureResult.from_bytes(data), has_checksum)
    except ValueError as error:
        raise FormError(f"{path}: {error}") from error


def _read_pace(path: Path) -> Sealed[Pace]:
    content, has_checksum = read_sealed(path)
    return Sealed(from_form(Pace, content, str(path)), has_checksum)
