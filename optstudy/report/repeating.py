"""The command that makes a study again."""

import shlex
from typing import Any

from optstudy.evidence import Evidence


def command_of(evidence: Evidence, study: str) -> str:
    """Return the command that makes a study again, with every key that governs its numbers.

    Where files of the user's own are named, they must lie in the folder in which it is given.
    """
    runs = [one for one in evidence.runs if one.run.study == study]
    searches = [one for one in evidence.searches if one.study == study]
    configs = list(dict.fromkeys(one.run.config for one in runs))
    plan = next((one.plan for one in runs if one.plan is not None), None)
    settings: dict[str, Any] = dict(searches[0].settings) if searches else {}
    if runs:
        settings |= {"margin": runs[0].run.margin, "target": runs[0].run.target}
    if plan is not None:
        settings |= {
            "dataset": plan.dataset,
            "model": plan.model,
            "loss": plan.loss,
            "batch_size": plan.batch_size,
            "train_epochs": plan.epochs,
            "train_size": plan.split.size,
            "sweep_every": _period(plan.sweep_epochs, plan.epochs),
            "samples": 0,
            "device": plan.device,
            "threads": plan.threads,
        }
        if plan.trace is not None:
            settings |= {
                "samples": "all" if plan.trace.samples is None else plan.trace.samples,
                "eigen_last": "all" if plan.trace.last is None else plan.trace.last,
                "eigen_every": plan.trace.every,
                "seed": plan.trace.seed,
            }
    words = ["optstudy", "study" if searches else "train", "--study", study]
    for name in dict.fromkeys(one.run.optimizer for one in runs):
        words += ["--opt", name]
    if searches:
        settings["configs"] = ",".join(configs)
    else:
        words += [word for name in configs for word in ("--config", name)]
    settings["seeds"] = max((1 + one.run.seed for one in runs), default=1)
    for key, value in settings.items():
        if value is not None:
            words += ["--set", f"{key}={value}"]
    return shlex.join(words)


def _period(epochs: tuple[int, ...], last: int) -> int:
    """Return the number of epochs between two sweeps; 0 where there is one at the end alone."""
    return epochs[0] if epochs and epochs[0] != last else 0
