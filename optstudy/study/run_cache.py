"""Cache of finished rungs on disk; its keys are hashes of everything that determines the results."""

from dataclasses import dataclass
from pathlib import Path

from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import trace_problem
from optstudy.records.forms import FormError, from_json, to_form
from optstudy.records.io import write_bytes, write_json
from optstudy.records.run import Rung


@dataclass(frozen=True)
class Pace:
    """Seconds per step of a run, timed while the study's other workers are idle."""

    step_seconds: float  # mean
    steps: int  # number of timed steps
    timed_at: float  # Unix time


@dataclass(frozen=True)
class RunCache:
    """The cache of a study: histories, last state, final curvature and pace of each run."""

    folder: Path

    def read(self, key: str, until: int) -> Rung | None:
        """Return the rung that ends with epoch ``until``; None if it is not stored."""
        try:
            path = self._history(key, until)
            return from_json(Rung, path.read_bytes(), str(path))
        except (OSError, FormError):
            return None  # missing or damaged: it is recomputed

    def state(self, key: str, epoch: int) -> bytes | None:
        """Return the state at the end of ``epoch``; None if it is not stored."""
        path = self._state(key, epoch)
        return path.read_bytes() if path.exists() else None

    def write(self, key: str, until: int, rung: Rung, state: bytes | None) -> None:
        """Store a rung and its state, and delete earlier states; a failed rung has no state."""
        if state is not None:
            write_bytes(self._state(key, until), state)
        write_json(self._history(key, until), to_form(rung))
        for older in self._run(key).glob("*.pt"):
            if older != self._state(key, until):
                older.unlink()

    def curvature(self, key: str) -> CurvatureResult | None:
        """Return the curvature at the end of a run; None if it is not stored."""
        try:
            return CurvatureResult.from_bytes(self._curvature_file(key).read_bytes())
        except (OSError, ValueError):
            return None  # missing or damaged: it is remeasured

    def write_curvature(self, key: str, data: bytes) -> None:
        """Store the curvature at the end of a run."""
        write_bytes(self._curvature_file(key), data)

    def pace(self, key: str) -> Pace | None:
        """Return the pace of a run; None if it is not stored."""
        try:
            return from_json(Pace, self._pace(key).read_bytes(), str(self._pace(key)))
        except (OSError, FormError):
            return None  # missing or damaged: it is retimed

    def write_pace(self, key: str, pace: Pace) -> None:
        """Store the pace of a run."""
        write_json(self._pace(key), to_form(pace))

    def drop_state(self, key: str) -> None:
        """Delete the state of a run that will not continue."""
        for path in self._run(key).glob("*.pt"):
            path.unlink()

    def finished(self, *, measured: bool) -> frozenset[str]:
        """Return the keys of the runs that have nothing left to do.

        A trial has ended, or was pruned in a batch that has ended, and a final run has its trace and curvature as well.

        Args:
            measured: Whether the study measures the curvature of its final runs.
        """
        keys = (path.name for path in self.folder.glob("*") if path.is_dir())
        return frozenset(key for key in keys if self._is_finished(key, measured=measured))

    def _is_finished(self, key: str, *, measured: bool) -> bool:
        epochs = sorted(int(path.stem) for path in self._run(key).glob("[0-9]*.json"))
        rungs = [self.read(key, until) for until in epochs]
        last = rungs[-1] if rungs else None
        if last is None:
            return False
        if last.outcome == "running":  # a trial that was pruned has no state
            return not any(self._run(key).glob("*.pt"))
        is_final = bool(last.epochs) and last.epochs[-1].exact_accuracy is not None
        if not is_final or not measured or last.outcome != "completed":
            return True
        problems = (trace_problem(rung.observations) for rung in rungs if rung is not None)
        return not any(problems) and self.curvature(key) is not None

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
