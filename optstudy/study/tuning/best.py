"""The files of the best configurations, which searches write and final runs read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Flow
from optstudy.records.forms import FormError, from_form, from_json
from optstudy.records.io import write_json
from optstudy.records.search import SearchResult
from optstudy.records.space import Space
from optstudy.study.context import Context
from optstudy.study.events import Notice
from optstudy.study.workspace import StudyFiles

_REMEDY = "restore the file, or remove it and tune again"
_KINDS: Mapping[str, Any] = {  # of the values that others read
    "config": dict[str, Any],
    "score": float,
    "trial": int,
    "trials": int,
    "gradient_work": float,
}


def read_best(files: StudyFiles, optimizer: str, space: Space) -> dict[str, Any]:
    """Return the best configuration of a search.

    Raises:
        UsageError: If there is none yet.
        OptstudyError: If the file does not hold a configuration of the optimizer.
    """
    path = files.best(optimizer)
    if not path.exists():
        raise UsageError(
            f"study {files.name!r} has no best configuration of {optimizer} yet;"
            f" run: optstudy tune --study {files.name} --opt {optimizer}"
        )
    config = read_best_file(path)["config"]
    if wrong := space.violations(config):
        raise OptstudyError(f"{path}: {wrong[0]}; {_REMEDY}")
    return dict(config)


def read_best_file(path: Path) -> dict[str, Any]:
    """Read the file of a best configuration.

    Raises:
        OptstudyError: If it holds no configuration, or a value has the wrong type.
    """
    try:
        content = from_json(dict[str, Any], path.read_bytes(), str(path))
        for name, kind in _KINDS.items():
            if name in content or name == "config":
                from_form(kind, content.get(name), f"{path}: {name}")
    except OSError as error:
        raise OptstudyError(f"cannot read {path}: {error.strerror}; {_REMEDY}") from error
    except FormError as error:
        raise OptstudyError(f"{error}; {_REMEDY}") from error
    return content


def write_best(context: Context, search: SearchResult, before: dict[str, Any] | None) -> Flow:
    """Write the best configuration of a search if it has changed, and notify the user if its values differ."""
    best = search.best
    assert best is not None
    content = _content(search, context.provenance.versions, context.provenance.environment.get("commit"))
    if before is not None and before["config"] != content["config"]:
        yield Notice(
            f"{search.optimizer}: trial {best.number} is best now; before it was trial {before.get('trial')}"
            f" with {before['config']}"
        )
    if before is None or {**before, "commit": None} != {**content, "commit": None}:
        write_json(context.files.best(search.optimizer), content)


def _content(search: SearchResult, versions: Mapping[str, str], commit: str | None) -> dict[str, Any]:
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
