"""What goes into MLflow and comes back. The only importer of mlflow."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FinalRun:
    """One finished final run, as read back from MLflow."""

    run_id: str
    study: str
    optimizer: str
    config: str  # best, paper, default
    seed: int
    outcome: str  # completed or diverged
    train_accuracy: float  # fraction, exact sweep over the training images
    test_accuracy: float  # fraction
    paper_setting: bool  # model and data are the paper's, so its Table I may stand beside ours
    seconds: float
    gradient_work: float
    params: dict[str, str]  # hyperparameters as MLflow returns them, strings


@dataclass(frozen=True)
class FinalRuns:
    """The final runs of some studies, and what was left out."""

    runs: tuple[FinalRun, ...]
    excluded: dict[str, int]  # why -> how many runs: unfinished, failed, superseded
