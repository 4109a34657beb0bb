"""What is searched how, what is asked and answered, and what was found."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Ask:
    """A trial to train until the end of an epoch."""

    number: int
    params: dict[str, Any]
    since: int
    until: int


@dataclass(frozen=True)
class Answer:
    """How a trial stands at the end of a rung."""

    state: Literal["running", "completed", "diverged", "failed"]
    score: float | None
    epochs: int
    gradient_work: float
