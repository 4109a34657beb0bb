"""Finished pieces of runs on disk, under keys made of everything that determines them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from optstudy.records.curvature import CurvatureResult
from optstudy.records.forms import FormError, from_json, to_form
from optstudy.records.io import write_bytes, write_json
from optstudy.records.run import Rung


@dataclass(frozen=True)
class Pace:
    """How fast a run steps where nothing else runs on the study's workers."""

    step_seconds: float  # mean
    steps: int  # that were timed
    timed_at: float  # Unix time


@dataclass(frozen=True)
class Rungs:
    """The rungs of a study: of each run all histories, and the last state."""

    folder: Path

    def read(self, key: str, until: int) -> Rung | None:
        """Return the rung that ended with epoch ``until``, if it is there."""
        try:
            path = self._history(key, until)
            return from_json(Rung, path.read_bytes(), str(path))
        except (OSError, FormError):
            return None  # absent, or damaged from outside: it is computed again

    def state(self, key: str, epoch: int) -> bytes | None:
        """Return the state at the end of ``epoch``, if it is there."""
        path = self._state(key, epoch)
        return path.read_bytes() if path.exists() else None

    def write(self, key: str, until: int, rung: Rung, state: bytes | None) -> None:
        """Keep a rung and its state, and drop the state before it; a failed rung has none."""
        if state is not None:
            write_bytes(self._state(key, until), state)
        write_json(self._history(key, until), to_form(rung))
        for older in self._run(key).glob("*.pt"):
            if older != self._state(key, until):
                older.unlink()

    def curvature(self, key: str) -> CurvatureResult | None:
        """Return what was measured where a run ended, if it is there."""
        try:
            return CurvatureResult.from_bytes(self._curvature_file(key).read_bytes())
        except (OSError, ValueError):
            return None  # absent, or damaged from outside: it is measured again

    def write_curvature(self, key: str, data: bytes) -> None:
        """Keep what was measured where a run ended."""
        write_bytes(self._curvature_file(key), data)

    def pace(self, key: str) -> Pace | None:
        """Return how fast a run steps, if that was timed."""
        try:
            return from_json(Pace, self._pace(key).read_bytes(), str(self._pace(key)))
        except (OSError, FormError):
            return None  # absent, or damaged from outside: it is timed again

    def write_pace(self, key: str, pace: Pace) -> None:
        """Keep how fast a run steps."""
        write_json(self._pace(key), to_form(pace))

    def drop_state(self, key: str) -> None:
        """Forget the state of a run that will not go on."""
        for path in self._run(key).glob("*.pt"):
            path.unlink()

    def drop(self, key: str) -> None:
        """Forget a run."""
        shutil.rmtree(self._run(key), ignore_errors=True)

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
