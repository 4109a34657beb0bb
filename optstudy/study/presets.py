"""Read presets, and single settings as typed on the command line."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optstudy.errors import UsageError, nearest
from optstudy.optimizers.catalogue import tuning_files
from optstudy.study.specification import KEYS, Specification


def read_preset(name: str, workspace: Path) -> dict[str, Any]:
    """Return the keys of a preset, the workspace's own before the packaged one.

    Raises:
        UsageError: If there is no such preset, or its file is invalid.
    """
    found = tuning_files("presets", workspace)
    if name not in found:
        raise UsageError(f"no preset {name!r}{nearest(name, found)}; there are {', '.join(found)}")
    path = found[name]
    try:
        return check_keys(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from error


def check_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Validate some keys of a specification, and return them with normalized values.

    Raises:
        UsageError: If a key is unknown or its value has the wrong type.
    """
    checked = Specification.from_keys(values).to_keys()
    return {name: checked[name] for name in values}


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``key=value`` as given to ``--set``; lists are separated by commas.

    Raises:
        UsageError: If the key is unknown, or the value is missing or has the wrong type.
    """
    name, separator, value = text.partition("=")
    if name not in KEYS:
        known = nearest(name, KEYS) or f"; the keys are {', '.join(KEYS)}"
        raise UsageError(f"--set {text!r} is not key=value with a key of a study{known}")
    if not separator:
        raise UsageError(f"--set {text!r} lacks a value; write --set {name}=VALUE")
    try:
        return name, KEYS[name].parse(value)
    except ValueError as error:
        raise UsageError(f"--set {text!r}: {name} must be {error}") from None
