"""The events that a running study yields."""

from dataclasses import dataclass

from optstudy.records.run import EpochRecord
from optstudy.records.search import SearchResult, Trial


@dataclass(frozen=True)
class Notice:
    """Information for the user."""

    text: str


@dataclass(frozen=True)
class Problem:
    """A failure; the rest of the study continues, and the command fails at the end."""

    text: str


@dataclass(frozen=True)
class OptimizerEstimate:
    """Estimated work of one optimizer."""

    optimizer: str
    step_seconds: float
    trials: int
    trial_seconds: float  # all trials together, on one worker, if none is pruned
    runs: int
    run_seconds: float  # all final runs together, on one worker


@dataclass(frozen=True)
class StudyEstimate:
    """Estimated work of a study, from a few timed steps of each optimizer."""

    optimizers: tuple[OptimizerEstimate, ...]
    jobs: int
    parameters: int
    disk_bytes: int
    startup_seconds: float = 0.0  # until the workers have imported what they need

    @property
    def seconds(self) -> float:
        """Expected wall time."""
        return self.startup_seconds + self.work_seconds

    @property
    def work_seconds(self) -> float:
        """Expected wall time of all work, shared by the workers."""
        return sum(item.trial_seconds + item.run_seconds for item in self.optimizers) / self.jobs


@dataclass(frozen=True)
class WorkDone:
    """Work that was finished or skipped."""

    run: str
    seconds: float  # as estimated, on one worker
    record: EpochRecord | None = None  # its last epoch, if it was trained
    before: bool = False  # it was finished when the study was started this time


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended."""

    optimizer: str
    trial: Trial
    before: bool = False  # it was finished when the study was started this time


@dataclass(frozen=True)
class SearchEnded:
    """The search of an optimizer has ended."""

    result: SearchResult


@dataclass(frozen=True)
class RunEnded:
    """A final run has ended."""

    run: str
    outcome: str
    train_accuracy: float
    test_accuracy: float


Event = Notice | Problem | StudyEstimate | WorkDone | TrialEnded | SearchEnded | RunEnded
