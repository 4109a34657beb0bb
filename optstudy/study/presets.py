"""Read presets, and parse the `KEY=VALUE` of `--set`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optstudy.errors import UsageError, suggestion
from optstudy.optimizers.catalogue import tuning_files
from optstudy.records.inputs import read_toml
from optstudy.records.naming import check_file_name
from optstudy.study.keys import KEYS
from optstudy.study.specification import check_keys

_PARSERS: Mapping[type, Callable[[str], Any]] = {
    int: int,
    float: float,
    bool: {"true": True, "false": False}.__getitem__,
}


def read_preset(name: str, workspace: Path) -> dict[str, Any]:
    """Return the keys of a preset; presets of the workspace take precedence over packaged presets.

    Raises:
        UsageError: If the preset does not exist, or its file is invalid.
    """
    check_file_name("preset", name)
    presets = tuning_files("presets", workspace)
    if name not in presets:
        raise UsageError(f"no preset {name!r}{suggestion(name, presets)}; there are {', '.join(presets)}")
    path = presets[name]
    content = read_toml(path)
    try:
        return check_keys(content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse ``key=value`` as given to ``--set``; lists are separated by commas.

    Raises:
        UsageError: If the key is unknown, or the value is missing or has the wrong type.
    """
    name, separator, value = text.partition("=")
    if name not in KEYS:
        hint = suggestion(name, KEYS) or f"; the keys are {', '.join(KEYS)}"
        raise UsageError(f"--set {text!r}: a study has no key {name!r}{hint}")
    if not separator:
        raise UsageError(f"--set {text!r} lacks a value; write --set {name}=VALUE")
    key = KEYS[name]
    if key.kind is tuple:
        return name, tuple(value.split(","))
    if key.kind is str or (key.allows_all and value == "all"):
        return name, value
    try:
        return name, _PARSERS[key.kind](value)
    except (ValueError, KeyError):
        kind = key.kind_name + " or all" * key.allows_all
        raise UsageError(f"--set {text!r}: {name} must be {kind}") from None
