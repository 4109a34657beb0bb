"""Variants of the given command line: with another study name, without a flag, or of another command."""

import importlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from click.core import ParameterSource


def command_with_free_name(error: Exception) -> str | None:
    """Return a command for the same study under an unused name after a ChangedStudyError, else None.

    It has the given words, and sets the recorded keys that neither these words nor the preset of a new study set alike.
    """
    name = getattr(error, "free_name", None)
    if name is None:
        return None
    words = sys.argv[1:]
    for option in ("--study", "--accept-source"):  # a study that has not begun has nothing to accept
        words = [word for word in words if not word.startswith(f"{option}=")]
        while option in words:
            index = words.index(option)
            del words[index : index + 2]
    return shlex.join(["optstudy", *words, *_recorded_keys(error, words), "--study", name])


def command_without(flag: str) -> str:
    """Return the given command without a flag."""
    return shlex.join(["optstudy", *(word for word in sys.argv[1:] if word != flag)])


def command_as(name: str) -> str:
    """Return the given command with another command's name, without ``--json``."""
    return shlex.join(["optstudy", name, *(word for word in sys.argv[2:] if word != "--json")])


def _recorded_keys(error: Any, words: Sequence[str]) -> Iterator[str]:
    """Yield options for the keys of the recorded study that a new study with the given words would not have."""
    from optstudy.report.commands import set_option
    from optstudy.study.presets import parse_setting, read_preset
    from optstudy.study.specification import Specification
    from optstudy.study.workspace import read_recorded

    recorded = read_recorded(error.files)
    if recorded is None:
        return
    command = getattr(importlib.import_module(f"optstudy.cli.{words[0]}"), words[0])
    context = command.make_context(words[0], list(words[1:]), resilient_parsing=True)
    options = {
        option: value
        for option, value in context.params.items()
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE
    }
    preset = options.get("preset")
    given = {*options, *(parse_setting(pair)[0] for pair in options.get("pairs", ()))}
    given |= read_preset(preset, error.files.workspace).keys() if preset else set()
    new = Specification.from_keys(read_preset(preset or "quick", error.files.workspace)).to_keys()
    for key, value in recorded.specification.to_keys().items():
        if key not in given and value != new[key]:
            yield from set_option(key, value)
