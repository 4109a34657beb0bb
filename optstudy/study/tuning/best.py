"""The files of the best configurations: written by searches, read by final runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Flow
from optstudy.records.forms import FormError, from_form
from optstudy.records.io import CHECKSUM, ChecksumError, Sealed, read_sealed, set_aside, write_sealed
from optstudy.records.search import SearchResult
from optstudy.records.space import Space
from optstudy.study.context import Context
from optstudy.study.events import Notice
from optstudy.study.workspace import StudyFiles

_TYPES: Mapping[str, Any] = {  # of the values; a file written by hand needs no other than config
    "optimizer": str,
    "config": dict[str, int | float | str | bool],
    "objective": str,
    "score": float,
    "trial": int,
    "trials": int,
    "epochs": int,
    "gradient_work": float,
    "finalists": tuple[dict[str, Any], ...],
    "seed": int,
    "versions": dict[str, str],
    "commit": str | None,
}


def read_best(files: StudyFiles, optimizer: str, space: Space) -> dict[str, Any]:
    """Return the best configuration of a search.

    Raises:
        UsageError: If there is none yet.
        OptstudyError: If the file does not hold a configuration of the optimizer.
    """
    path, command = files.best(optimizer), f"optstudy tune --study {files.name} --opt {optimizer}"
    try:
        config = read_best_file(path).content["config"]
    except FileNotFoundError:
        raise UsageError(
            f"study {files.name!r} has no best configuration of {optimizer} yet; run: {command}"
        ) from None
    except FormError as error:
        own = f", or remove its {CHECKSUM} to use its values" * isinstance(error, ChecksumError)
        raise OptstudyError(f"{error}; `{command}` writes it again{own}") from error
    if problems := space.violations(config):
        raise OptstudyError(f"{path}: {problems[0]}; `{command}` writes it again")
    return dict(config)


def read_best_file(path: Path) -> Sealed[dict[str, Any]]:
    """Read the file of a best configuration; one that was written by hand has no checksum.

    Raises:
        FileNotFoundError: If there is none.
        FormError: If it holds no configuration, a value has the wrong type, or it does not agree with its checksum.
    """
    best = read_sealed(path)
    for name, expected in _TYPES.items():
        if name in best.content or name == "config":
            from_form(expected, best.content.get(name), f"{path}: {name}")
    return best


def previous_best(path: Path) -> Flow:
    """Read the best configuration of an earlier search, which the flow returns; None if there is none.

    A damaged file is renamed.
    """
    try:
        return read_best_file(path)
    except FileNotFoundError:
        return None
    except FormError as error:
        kept = set_aside(path)
        yield Notice(f"{error}; it is kept as {kept.name}, and the search writes it again")
        return None


def write_best(context: Context, search: SearchResult, previous: Sealed[dict[str, Any]] | None) -> Flow:
    """Write the best configuration of a search if it has changed, and notify the user if its values differ.

    A file without a checksum gets one.
    """
    best = search.best
    assert best is not None
    content = _content(search, context.provenance.versions, context.provenance.environment.get("commit"))
    before = {} if previous is None else previous.content
    if before and before["config"] != content["config"]:
        yield Notice(
            f"{search.optimizer}: trial {best.number} is now the best; previously it was trial {before.get('trial')}"
            f" with {before['config']}"
        )
    path = context.files.best(search.optimizer)
    if {**before, "commit": None} != {**content, "commit": None}:
        write_sealed(path, content)
    elif previous is not None and not previous.has_checksum:
        write_sealed(path, before)


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
