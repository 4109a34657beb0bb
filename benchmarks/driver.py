"""What the driver costs: its share in the processor time of a study, and its time for each of many trials.

python benchmarks/driver.py [--preset quick] [--jobs 2]
python benchmarks/driver.py --trials 10000 [--sampler random] [--workspace DIR]

The driver's processor time is everything except training: Optuna, MLflow, figures, models, rungs on disk. In the first
form the workers' processor time is training, evaluation and their imports, and the rest is idle time of the cores.

In the second form a search has many trials whose training takes no time. It prints the driver's time for each trial
beside Optuna's own, to ask and tell as many, the memory, and the time of the commands that read such a study or resume
it.
"""

import argparse
import hashlib
import io
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from optstudy.execution.flows import Task
from optstudy.execution.local import available_cores, run_pickled
from optstudy.optimizers import load_space
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, Rung
from optstudy.study.driver import Study
from optstudy.study.events import TrialEnded
from optstudy.study.specification import TuningSettings
from optstudy.study.tuning.ask_tell import make_sampler
from optstudy.study.tuning.distributions import distributions
from optstudy.training import run_verified_rung

LIMIT = 0.05
MARKS = (100, 1_000, 10_000)  # numbers of trials at which the last `WINDOW` are timed
WINDOW = 100
STATE_BYTES = 2_000  # of a trial that has not ended

DATA = """
import torch

from optstudy.data import Dataset


def part(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.rand(count, 4, generator=generator) + labels[:, None], labels


def load():
    return Dataset(*part(300, 0), *part(90, 1), ("small", "medium", "large"))
"""
NET = """
from torch import nn


def make():
    return nn.Linear(4, 3)
"""
SETTINGS: dict[str, Any] = {
    "dataset": "data.py:load",
    "model": "net.py:make",
    "optimizers": ("sgd",),
    "tune_epochs": 1,
    "tune_size": 0,
    "validation": 90,
    "train_epochs": 1,
    "train_size": 0,
    "batch_size": 30,
    "seeds": 2,
    "samples": 0,
}


class InstantWorkers:
    """Workers in this process that make up the results of trials, and do all other tasks."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Task]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __len__(self) -> int:
        return 1

    def submit(self, ticket: int, task: Task) -> None:
        """Queue a task."""
        self._waiting.append((ticket, task))

    def next_result(self) -> tuple[int, Any]:
        """Return the result of the task that has waited longest."""
        ticket, task = self._waiting.popleft()
        if task.function is run_verified_rung:
            _, plan, _, since, until = task.arguments
            if plan.split.role == "tuning":
                return ticket, (_rung(plan, since, until), _state())
        return ticket, pickle.loads(run_pickled(pickle.dumps(task)))  # noqa: S301  # made here


class InstantStudy(Study):
    """A study whose trials take no time."""

    def _workers(self) -> Any:
        return InstantWorkers()


def _rung(plan: Plan, since: int, until: int) -> Rung:
    """Return a rung whose score is a hash of the plan's hyperparameters."""
    digest = hashlib.sha256(repr(sorted(plan.method.arguments.items())).encode()).hexdigest()
    score = int(digest[:8], 16) / 2**32
    epochs = tuple(
        EpochRecord(epoch, 1.0, score, 1.0 - score, score, 0.1, 0.01, time.time(), 10, 0)
        for epoch in range(since + 1, until + 1)
    )
    if until < plan.epochs:
        return Rung(epochs, (), "running")
    return Rung(epochs, (), "completed", predicted=(0,) * plan.split.validation)


def _state() -> bytes:
    """Return a file in place of a run's state, which is never read."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as state:
        state.writestr("state", bytes(STATE_BYTES))
    return file.getvalue()


def share(preset: str, jobs: int) -> bool:
    """Run a study in an empty folder, print the processor time of driver and workers, and return whether it is met."""
    with tempfile.TemporaryDirectory() as folder:
        study = Study("share", preset=preset, workspace=Path(folder), jobs=jobs)
        cpu, wall = time.process_time(), time.monotonic()
        for event in study.run():
            print(f"{time.monotonic() - wall:6.1f} s  {type(event).__name__}", flush=True)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = wall * jobs
    rows = {"workers": children.ru_utime + children.ru_stime, "driver": cpu}
    rows["idle"] = total - sum(rows.values())
    print(f"\npreset {preset}, {jobs} workers on {os.cpu_count()} cores: {wall:.0f} s")
    for name, seconds in rows.items():
        print(f"{name:<8} {seconds:8.1f} core seconds  {seconds / total:6.1%}")
    print(f"driver's share {cpu / total:.1%}, limit {LIMIT:.0%}")
    return cpu / total <= LIMIT


def load(trials: int, sampler: str, folder: Path) -> None:
    """Run a search of many trials in a folder, and print what its trials and the commands after it take."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    Path("data.py").write_text(DATA)
    Path("net.py").write_text(NET)
    study = InstantStudy("load", trials=trials, sampler=sampler, pruner="none", **SETTINGS)
    marks = [mark for mark in MARKS if mark <= trials]
    memory = {0: _peak_memory()}
    ended = (event for event in study.run() if isinstance(event, TrialEnded))
    rows = [("driver", _times(_observed(ended, marks, memory), marks))]
    for name, storage in (
        ("Optuna in memory", InMemoryStorage()),
        ("Optuna with a journal", JournalStorage(JournalFileBackend("asked.log"))),
    ):
        rows.append((name, _times(_asked(study.specification.tuning, storage, marks[-1]), marks)))
    print(f"\n{trials:,} trials, sampler {sampler}, on one of {os.cpu_count()} cores")
    print(f"milliseconds of processor time for each of the {WINDOW} trials before (wall clock in brackets)")
    print(f"{'':<22}" + "".join(f"{f'at {mark:,}':>18}" for mark in marks))
    for name, times in rows:
        cells = (f"{1000 * cpu:.2f} ({1000 * wall:.2f})" for cpu, wall in times)
        print(f"{name:<22}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"{'peak memory, MB':<22}" + "".join(f"{memory[mark]:>18,.0f}" for mark in marks))
    print(f"(before the first trial {memory[0]:,.0f} MB)")
    first_new = f"sgd/{study.specification.tuning.rounded_trials:03d} "
    _print_command(["tune", "--study", "load", "--jobs", "1", "--trials", str(trials + 1)], first_new)
    _print_command(["status"])
    _print_command(["compare", "--study", "load"])


def _observed(ended: Iterator[TrialEnded], marks: list[int], memory: dict[int, float]) -> Iterator[None]:
    for count, _ in enumerate(ended, 1):
        yield
        if count in marks:
            memory[count] = _peak_memory()
            print(f"{count:,} trials", flush=True)


def _asked(settings: TuningSettings, storage: BaseStorage, trials: int) -> Iterator[None]:
    """Ask and tell trials in batches, as a search does."""
    study, space = optuna.create_study(storage=storage), distributions(load_space("sgd", Path()))
    for first in range(0, trials, settings.batch):
        study.sampler = make_sampler(settings, 0, first)
        for number, trial in enumerate([study.ask(space) for _ in range(settings.batch)], first):
            study.tell(trial, number % 97)
            yield


def _times(trials: Iterator[None], marks: list[int]) -> list[tuple[float, float]]:
    """Return the processor and wall-clock seconds of a trial before each mark."""
    before, found = (time.process_time(), time.monotonic()), []
    for count, _ in enumerate(trials, 1):
        now = (time.process_time(), time.monotonic())
        if count in marks:
            found.append(((now[0] - before[0]) / WINDOW, (now[1] - before[1]) / WINDOW))
        if count + WINDOW in marks:
            before = now
    return found


def _print_command(arguments: list[str], until: str = "") -> None:
    """Run a command and print its time, also to the first line that begins with ``until``."""
    began, used = time.monotonic(), _children_time()
    with subprocess.Popen(  # noqa: S603  # this interpreter and this program
        [sys.executable, "-m", "optstudy", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if until and line.startswith(until):
                fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                print(
                    f"{'to the first new trial of the next command':<52} {cpu:8.1f} s ({time.monotonic() - began:.1f})"
                )
    cpu, wall = _children_time() - used, time.monotonic() - began
    command = " ".join(["optstudy", *arguments])
    print(f"{command:<52} {cpu:8.1f} s ({wall:.1f}), status {process.returncode}")


def _children_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Parse the arguments and run one of the two benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--jobs", type=int, default=available_cores())
    parser.add_argument("--trials", type=int, help="a search of so many trials, at least 100")
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--workspace", type=Path, help="where the search is kept")
    arguments = parser.parse_args()
    if arguments.trials is None:
        raise SystemExit(not share(arguments.preset, arguments.jobs))
    with tempfile.TemporaryDirectory() as folder:
        load(arguments.trials, arguments.sampler, arguments.workspace or Path(folder))


if __name__ == "__main__":
    main()
