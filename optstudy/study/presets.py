"""Presets, which say what studies are made of, and single keys as they are typed."""

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
        UsageError: If there is none of that name, or the file does not say what a study is.
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
    """Return some keys of a specification with their values as it holds them.

    Raises:
        UsageError: If a key is unknown or its value is not of the key's kind.
    """
    checked = Specification.from_keys(values).to_keys()
    return {name: checked[name] for name in values}


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``key=value`` as given to ``--set``; lists are separated by commas.

    Raises:
        UsageError: If there is no such key, no value, or the value is not of the key's kind.
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
