"""The configurations that searches chose: files to look at, to commit, and to train from."""

import json
from pathlib import Path
from typing import Any

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Flow
from optstudy.records.io import write_json
from optstudy.records.search import Searched
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


def keep_best(context: Context, searched: Searched, before: dict[str, Any] | None) -> Flow:
    """Keep the configuration that a search chose, and say so if it was another before."""
    best, path = searched.best, context.files.best(searched.optimizer)
    assert best is not None
    own = next((one for one in searched.finalists if one.trial == best.number), None)
    content = {
        "optimizer": searched.optimizer,
        "config": best.params,
        "objective": f"validation {searched.objective}",
        "score": best.score if own is None else own.mean(searched.objective),
        "trial": best.number,
        "trials": len(searched.trials),
        "epochs": context.specification.tuning.epochs,
        "gradient_work": searched.gradient_work,
        **_finalists(searched),
        "seed": context.specification.seed,
        "versions": dict(context.versions),
        "commit": context.environment.get("commit"),
    }
    if before is not None and before["config"] != content["config"]:
        yield Notice(
            f"{searched.optimizer}: trial {best.number} is best now; before it was trial {before.get('trial')}"
            f" with {before['config']}"
        )
    if before is None or {**before, "commit": None} != {**content, "commit": None}:
        write_json(path, content)


def _finalists(searched: Searched) -> dict[str, Any]:
    rows = [
        {
            "trial": one.trial,
            "seeds": list(one.seeds),
            "scores": list(one.scores),
            "mean": one.mean(searched.objective),
        }
        for one in searched.finalists
    ]
    return {"finalists": rows} if rows else {}
