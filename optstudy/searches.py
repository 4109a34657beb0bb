"""What a search of hyperparameters tells beside its choice: how it went, and what it took."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """Where a search stood when a trial had ended."""

    trial: int
    gradient_work: float  # of all trials so far
    best: float | None  # score of the completed trials so far; None before the first


@dataclass(frozen=True)
class SearchSummary:
    """One finished search of a study."""

    study: str
    optimizer: str
    objective: str  # accuracy or loss, of the validation images
    trials: dict[str, int]  # how many, by how they ended
    gradient_work: float  # of trials and finalists; a forward and backward pass of one mini-batch is 1
    chosen: int | None  # number of the trial; None where none completed
    config: dict[str, Any]  # its hyperparameters
    score: float | None  # of the chosen trial in the search
    finalists: (
        int  # best trials that were trained again before one was chosen; 0 where the score decided at once
    )
    score_again: float | None  # of the chosen one, mean over the seeds from which it was trained again
    curve: tuple[Step, ...]


def summarise(content: Mapping[str, Any]) -> SearchSummary:
    """Summarise a search from the record that `tune` logs, ``search.json``."""
    searched = content["searched"]
    best, finalists = searched["best"], searched["finalists"]
    again = [one for one in finalists if best and one["trial"] == best["number"]]
    curve = _curve(searched["trials"], searched["objective"])
    return SearchSummary(
        study=content["study"],
        optimizer=searched["optimizer"],
        objective=searched["objective"],
        trials=dict(sorted(Counter(trial["state"] for trial in searched["trials"]).items())),
        gradient_work=sum(one["gradient_work"] for one in (*searched["trials"], *finalists)),
        chosen=best["number"] if best else None,
        config=best["params"] if best else {},
        score=best["score"] if best else None,
        finalists=len(finalists),
        score_again=_mean(again[0]["scores"]) if again else None,
        curve=curve,
    )


def _curve(trials: list[Mapping[str, Any]], objective: str) -> tuple[Step, ...]:
    better = max if objective == "accuracy" else min
    steps: list[Step] = []
    work, best = 0.0, None
    for trial in trials:
        work += trial["gradient_work"]
        if trial["state"] == "completed" and trial["score"] is not None:
            best = trial["score"] if best is None else better(best, trial["score"])
        steps.append(Step(trial["number"], work, best))
    return tuple(steps)


def _mean(scores: list[float | None]) -> float | None:
    """Return the mean, None where one of the scores was not finite."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(scores) if len(known) == len(scores) else None
