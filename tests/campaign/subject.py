"""The tiny study, which is struck while it runs and started again, and what it leaves in the end."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny
from outcomes import outcome, rung_files

from optstudy.execution.local import WORKER_VARIABLE

SEED = int(os.environ.get("OPTSTUDY_CAMPAIGN_SEED", "0"))
MARK = "OPTSTUDY_CAMPAIGN"  # in the environment of a driver and of all that it starts
STARTUP = 6.0  # seconds until a driver's first task
LONG = 600.0  # seconds after which a driver hangs, on a machine however busy

Strike = Callable[["Subject", random.Random], None]


@dataclass
class Subject:
    """A study in a folder of its own, and its driver."""

    folder: Path
    total: int  # how many files it has in the end
    options: Sequence[str] = ("--jobs", "1")
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    seen: Path = Path()  # the folder as these tests see it, if the driver is in a mount namespace of its own
    store: Path = Path()  # the workspace whose mlruns/ it logs to, if that is another's
    blows: int = 0
    orphans: int = 0
    rungs: Mapping[str, int] = field(default_factory=dict)  # when each was written
    repeated: int = 0  # rungs that were written again
    surprises: list[str] = field(default_factory=list)  # ends that a blow should not have
    driver: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        """Start a driver."""
        self.look_for_repeated_work()
        with self._errors.open("a") as errors:
            self.driver = tiny.start(
                ["study", "--study", "tiny", *self.options, *tiny.options(**tiny.WHOLE)],
                self.folder,
                prefix=self.prefix,
                env={**os.environ, **self.environment, MARK: str(self.folder)},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    @property
    def running(self) -> bool:
        """Whether the driver runs."""
        return self.driver is not None and self.driver.poll() is None

    @property
    def pid(self) -> int:
        """Number of the driver's process, and of its group."""
        assert self.driver is not None
        return self.driver.pid

    def suffer(self, strike: Strike, moments: Sequence[float], draw: random.Random) -> None:
        """Strike when the study has such fractions of its files; start it again when it has ended; let it finish."""
        for moment in sorted(moments):
            if not self.running:
                self.start()
            self._reach(moment * self.total, draw)
            if self.running:
                strike(self, draw)
                self.blows += 1
        if not self.running:
            self.start()
        status = self.ended()
        if "a worker died 3 times" in self.printed():  # then its task is given up, until the next command
            self.start()
            status = self.ended()
        if status:
            self.surprises.append(f"it does not finish: {status}, {self.last_line()}")

    def wait(self, seconds: float) -> None:
        """Wait for some time, or until the driver ends."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.running:
            time.sleep(0.01)

    def ended(self) -> int:
        """Wait for the driver's end, then for that of its workers, and return its exit status."""
        assert self.driver is not None
        status = self.driver.wait(LONG)
        until = time.monotonic() + LONG / 10
        while (left := [pid for pid, _ in self._processes()]) and time.monotonic() < until:
            time.sleep(0.1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.orphans += len(left)
        return status

    def workers(self) -> list[int]:
        """Process numbers of the workers."""
        return [pid for pid, variables in self._processes() if f"{WORKER_VARIABLE}=1".encode() in variables]

    def files(self) -> set[str]:
        """Names of the files that the study has so far."""
        return files(self._workspace, self._workspace if self.store == Path() else self.store)

    def look_for_repeated_work(self) -> None:
        """Count the rungs that were written again since this was asked last."""
        written = {name: path.stat().st_mtime_ns for name, path in rung_files(self._workspace).items()}
        self.repeated += sum(written.get(name, since) != since for name, since in self.rungs.items())
        self.rungs = written

    def printed(self) -> str:
        """What the drivers have printed to standard error."""
        return self._errors.read_text()

    def last_line(self) -> str:
        """The last line of it."""
        return (self.printed().splitlines() or [""])[-1]

    @property
    def _workspace(self) -> Path:
        return self.folder if self.seen == Path() else self.seen

    @property
    def _errors(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-errors.txt")

    def _reach(self, number: float, draw: random.Random) -> None:
        """Wait until the study has so many files, and at times a little longer; if it has them, for a while."""
        if len(self.files()) >= number:
            return self.wait(draw.uniform(0, STARTUP))
        while len(self.files()) < number and self.running:
            time.sleep(0.03)
        return self.wait(draw.choice([0.0, 0.0, draw.uniform(0, 0.2)]))

    def _processes(self) -> Iterator[tuple[int, list[bytes]]]:
        """The driver and all that it started, each with its environment."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if f"{MARK}={self.folder}".encode() in variables:
                yield int(folder.name), variables


def files(workspace: Path, store: Path) -> set[str]:
    """Names of the files of a study in a workspace, and of the store that it logs to."""
    places = [(workspace, "tuning/studies"), (workspace, "tuning/best"), (store, "mlruns")]
    return {
        os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118  # asked every few milliseconds
        for root, kept in places
        for folder, _, names in os.walk(root / kept)
        for name in names
    }


def findings(
    subject: Subject,
    expected: Mapping[str, Any],
    names: set[str],
    uri: str | None,
    select: Callable[[str], int],
) -> dict[str, int]:
    """Count what differs from the outcome of the study that was left alone, and what should not be there."""
    found = outcome(subject.folder, uri)
    subject.look_for_repeated_work()
    differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    # Names of runs in MLflow are drawn, and so are those of the files that they have.
    left = sorted(name for name in subject.files() - names if "/artifacts/" not in name)
    sys.stderr.write(f"different: {differing}\nleft over: {left}\nsurprises: {subject.surprises}\n")
    sys.stderr.write(subject.printed())
    return {
        "differences": len(differing),
        "left RUNNING": select("select count(*) from runs where status = 'RUNNING'"),
        "rungs repeated": subject.repeated,
        "steps doubled": select(
            "select count(*) from"
            " (select 1 from metrics group by run_uuid, key, step having count(*) > 1) as doubled"
        ),
        "orphans": subject.orphans,
        "leftovers": len(left),
        "wrong ends": len(subject.surprises),
        "tracebacks": subject.printed().count("Traceback (most recent call last)"),
    }
