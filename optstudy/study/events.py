"""The events that a running study yields."""

from dataclasses import dataclass
from pathlib import Path

from optstudy.records.run import EpochRecord
from optstudy.records.search import SearchResult, Trial
from optstudy.study.estimate import StudyEstimate


@dataclass(frozen=True)
class Notice:
    """Information for the user."""

    text: str
    problem: bool = False  # failed work: the rest of the study continues, and the command fails at the end


@dataclass(frozen=True)
class UncheckedFile:
    """A file without a checksum was read; `Study.run` counts these, and reports their number."""

    path: Path


@dataclass(frozen=True)
class Resumed:
    """The study goes on after work of earlier commands, which is read again."""

    trials: int
    runs: int  # final runs


@dataclass(frozen=True)
class WorkDone:
    """Work that was finished or skipped."""

    run: str
    seconds: float  # as estimated, on one worker
    record: EpochRecord | None = None  # last epoch, if it was trained
    already_done: bool = False  # finished before this command started


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended."""

    optimizer: str
    trial: Trial
    already_done: bool = False  # finished before this command started


@dataclass(frozen=True)
class RunEnded:
    """A final run has ended."""

    run: str
    outcome: str
    train_accuracy: float
    test_accuracy: float


Event = Notice | StudyEstimate | Resumed | WorkDone | TrialEnded | SearchResult | RunEnded
