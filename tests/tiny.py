"""A user's own data, model and optimizer, so small that a whole study takes seconds, and ways to run one."""

import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from optstudy.execution.flows import Task
from optstudy.execution.local import run_pickled
from optstudy.study.driver import Study

IMAGES = """
import torch

from optstudy.data import Dataset


def part(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 160, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    for label in range(3):
        images[labels == label, :, 2 * label : 2 * label + 3] += 40
    wrong = torch.rand(count, generator=generator) < 0.1
    return images, torch.where(wrong, (labels + 1) % 3, labels)


def load():
    return Dataset(*part(300, 0), *part(100, 1), ("top", "middle", "low"))
"""

NET = """
from torch import nn


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))
"""

# Its steps after the first raise in one mode, which is that of its [paper], the first trial of a search; in another
# those after the 20th. A rehearsal takes one step of the former, and 14 of the latter.
UNRELIABLE = """
import torch


class Unreliable(torch.optim.SGD):
    def __init__(self, parameters, lr, mode):
        super().__init__(parameters, lr=lr)
        self.mode = mode
        self.steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps > {"raises": 1, "raises_late": 20}.get(self.mode, self.steps):
            raise RuntimeError("no step in this mode")
        return super().step(closure)
"""

UNRELIABLE_SPACE = """
optimizer = "unreliable.py:Unreliable"

[search.lr]
low = 1e-5
high = 0.5
log = true
why = "From no progress to the edge."

[search.mode]
choices = ["works", "raises"]
why = "In one of them every step after the first raises."

[default]
lr = 0.1
mode = "works"

[paper]
lr = 0.1
mode = "raises"
"""

SETTINGS: Mapping[str, Any] = {
    "dataset": "images.py:load",
    "model": "net.py:make",
    "optimizers": ("sgd",),
    "trials": 4,
    "batch": 2,
    "startup_trials": 2,
    "tune_epochs": 3,
    "tune_size": 0,
    "validation": 60,
    "train_epochs": 2,
    "train_size": 0,
    "samples": 0,
    "batch_size": 25,
    "seeds": 2,
}

# What the finished study of conftest is made of: its trials complete, are pruned and fail.
WHOLE: Mapping[str, Any] = {"optimizers": ("sgd", "unreliable"), "trials": 6, "samples": 20, "eigen_last": 4}


def write(folder: Path) -> None:
    """Write the user's files into a workspace, which has to be the current folder of whoever runs a study."""
    spaces = folder / "tuning" / "spaces"
    spaces.mkdir(parents=True, exist_ok=True)
    for name, text in {"images.py": IMAGES, "net.py": NET, "unreliable.py": UNRELIABLE}.items():
        (folder / name).write_text(text)
    (spaces / "unreliable.toml").write_text(UNRELIABLE_SPACE)


class InProcessWorkers:
    """Does in this process what workers do in theirs, since a worker takes seconds to start."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, bytes]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, ticket: int, task: Task) -> None:
        self._waiting.append((ticket, pickle.dumps(task)))

    def __len__(self) -> int:
        return 1

    def next_result(self) -> tuple[int, Any]:
        ticket, message = self._waiting.popleft()
        return ticket, pickle.loads(run_pickled(message))  # noqa: S301  # made here


class InProcessStudy(Study):
    """A study without workers."""

    def _workers(self) -> Any:
        return InProcessWorkers()


def study(name: str = "tiny", *, jobs: int | None = None, **changes: Any) -> Study:
    """Describe a study in the current folder, with workers of its own if their number is given."""
    kind = InProcessStudy if jobs is None else Study
    return kind(name, jobs=jobs, **{**SETTINGS, **changes})


def reopened_study(name: str = "tiny") -> Study:
    """Open a study as it was begun."""
    return InProcessStudy(name)


def options(**changes: Any) -> list[str]:
    """The same settings for the command line."""
    written = {**SETTINGS, **changes}
    pairs = [
        f"{key}={','.join(value) if isinstance(value, tuple) else value}" for key, value in written.items()
    ]
    return [part for pair in pairs for part in ("--set", pair)]


def start(
    arguments: Sequence[str], folder: Path, *, prefix: Sequence[str] = (), **popen: Any
) -> "subprocess.Popen[str]":
    """Start the command line in a folder, in a process group of its own, by way of the program ``prefix``."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", "from optstudy.cli import main; main()", *arguments],
        cwd=folder,
        text=True,
        start_new_session=True,
        **popen,
    )


def command(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a folder to its end."""
    process = start(arguments, folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)
