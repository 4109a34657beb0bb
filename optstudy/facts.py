"""What a study's results rest on beside its specification: spaces, the user's own source files, versions."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

from optstudy.optimizers import Space
from optstudy.references import sources
from optstudy.specification import Specification
from optstudy.workspace import ChangedStudyError, Recorded, StudyFiles


def check_facts(
    files: StudyFiles, recorded: Recorded | None, specification: Specification, spaces: Mapping[str, Space]
) -> dict[str, Any]:
    """Return what the study's results rest on beside its specification.

    Raises:
        ChangedStudyError: If any of it has changed since the study began.
    """
    classes = [space.optimizer for space in spaces.values()]
    named = [specification.dataset, specification.model, specification.loss, *classes]
    facts: dict[str, dict[str, Any]] = {
        "spaces": {name: _plain(space) for name, space in spaces.items()},
        "sources": {reference: sources(reference) for reference in named},
        "versions": {name: importlib.metadata.version(name) for name in ("optstudy", "optuna", "torch")},
    }
    before = recorded.facts if recorded else {}
    for kind, now in facts.items():
        for name, old in before.get(kind, {}).items():
            if now.get(name, old) != old and name != "optstudy":
                raise ChangedStudyError(files, _difference(kind, name, old, now[name]))
    return {kind: {**before.get(kind, {}), **now} for kind, now in facts.items()}


def _difference(kind: str, name: str, old: Any, new: Any) -> str:
    if kind == "versions":
        return f"{name} {old}, not {new}"
    keys = ", ".join(key for key in {**old, **new} if old.get(key) != new.get(key))
    return f"another space of {name} ({keys} differ)" if kind == "spaces" else f"another {keys}"


def _plain(space: Space) -> dict[str, Any]:
    """A space as JSON, without what does not change a search: where it lies, and why each range is what it is."""
    content = dataclasses.asdict(space)
    del content["source"]
    for dimension in content["search"]:
        del dimension["why"]
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain
