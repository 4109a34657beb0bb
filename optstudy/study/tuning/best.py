"""The configurations that searches chose: files to look at, to commit, and to train from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Flow
from optstudy.records.io import write_json
from optstudy.records.search import SearchResult
from optstudy.records.space import Space
from optstudy.study.context import Context
from optstudy.study.events import Notice
from optstudy.study.workspace import StudyFiles


def read_best(files: StudyFiles, optimizer: str, space: Space) -> dict[str, Any]:
    """Return the configuration that a search chose.

    Raises:
        UsageError: If there is none.
        OptstudyError: If the file is no configuration of the optimizer.
    """
    path = files.best(optimizer)
    if not path.exists():
        raise UsageError(
            f"study {files.name!r} has no best configuration of {optimizer} yet;"
            f" run: optstudy tune --study {files.name} --opt {optimizer}"
        )
    config = read_kept(path)["config"]
    if wrong := space.outside(config):
        raise OptstudyError(f"{path}: {wrong[0]}; restore the file, or remove it and tune again")
    return dict(config)


def read_kept(path: Path) -> dict[str, Any]:
    """Read what a search kept.

    Raises:
        OptstudyError: If the file holds no configuration.
    """
    try:
        content = dict(json.loads(path.read_text()))
        return {**content, "config": dict(content["config"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptstudyError(
            f"{path}: not a configuration ({type(error).__name__}: {error}); restore it, or remove it and tune again"
        ) from error


def keep_best(context: Context, search: SearchResult, before: dict[str, Any] | None) -> Flow:
    """Keep the configuration that a search chose, and say so if it was another before."""
    best = search.best
    assert best is not None
    content = _form(search, context.versions, context.environment.get("commit"))
    if before is not None and before["config"] != content["config"]:
        yield Notice(
            f"{search.optimizer}: trial {best.number} is best now; before it was trial {before.get('trial')}"
            f" with {before['config']}"
        )
    if before is None or {**before, "commit": None} != {**content, "commit": None}:
        write_json(context.files.best(search.optimizer), content)


def _form(search: SearchResult, versions: Mapping[str, str], commit: str | None) -> dict[str, Any]:
    best = search.best
    assert best is not None
    finalists = [
        {
            "trial": one.trial,
            "seeds": list(one.seeds),
            "scores": list(one.scores),
            "mean": one.mean(search.objective),
        }
        for one in search.finalists
    ]
    return {
        "optimizer": search.optimizer,
        "config": best.params,
        "objective": f"validation {search.objective}",
        "score": best.score if search.best_mean is None else search.best_mean,
        "trial": best.number,
        "trials": len(search.trials),
        "epochs": search.settings["tune_epochs"],
        "gradient_work": search.gradient_work,
        **({"finalists": finalists} if finalists else {}),
        "seed": search.settings["seed"],
        "versions": dict(versions),
        "commit": commit,
    }
