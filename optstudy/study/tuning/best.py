"""The files of the best configurations: written by searches, read by final runs."""

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

_REMEDY = "restore the file, or remove it and rerun the tuning"
_TYPES: Mapping[str, Any] = {  # types of the values that other modules read
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
    if problems := space.violations(config):
        raise OptstudyError(f"{path}: {problems[0]}; {_REMEDY}")
    return dict(config)


def read_best_file(path: Path) -> dict[str, Any]:
    """Read the file of a best configuration.

    Raises:
        OptstudyError: If it holds no configuration, or a value has the wrong type.
    """
    try:
        content = from_json(dict[str, Any], path.read_bytes(), str(path))
        for name, expected in _TYPES.items():
            if name in content or name == "config":
                from_form(expected, content.get(name), f"{path}: {name}")
    except OSError as error:
        raise OptstudyError(f"cannot read {path}: {error.strerror}; {_REMEDY}") from error
    except FormError as error:
        raise OptstudyError(f"{error}; {_REMEDY}") from error
    return content


def write_best(context: Context, search: SearchResult, previous: dict[str, Any] | None) -> Flow:
    """Write the best configuration of a search if it has changed, and notify the user if its values differ."""
    best = search.best
    assert best is not None
    content = _content(search, context.provenance.versions, context.provenance.environment.get("commit"))
    if previous is not None and previous["config"] != content["config"]:
        yield Notice(
            f"{search.optimizer}: trial {best.number} is now the best; previously it was trial {previous.get('trial')}"
            f" with {previous['config']}"
        )
    if previous is None or {**previous, "commit": None} != {**content, "commit": None}:
        write_json(context.files.best(search.optimizer), content)


def _content(search: SearchResult, versions: Mapping[str, str], commit: str | None) -> dict[str, Any]:
    best = search.best
    assert best is not None
    finalists = [
        {
            "trial": finalist.trial,
            "seeds": list(finalist.seeds),
            "scores": list(finalist.scores),
            "mean": finalist.mean(search.objective),
        }
        for finalist in search.finalists
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
