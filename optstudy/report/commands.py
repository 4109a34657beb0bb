"""The commands that reproduce a study, as printed on the report's page."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from optstudy.records.evidence import Evidence
from optstudy.records.naming import RowKey
from optstudy.records.search import SearchResult


def study_commands(evidence: Evidence, study: str) -> str:
    """Return the commands that reproduce a study, one a line, with every key of its specification.

    There is one command if all optimizers were searched and trained alike. The user's own files must lie in the folder
    in which the commands are run.

    Returns:
        The commands; empty if no run recorded its study's specification.
    """
    runs = [one for one in evidence.runs if one.run.study == study]
    searches = [one for one in evidence.searches if one.study == study]
    recorded = next((one.specification for one in runs if one.specification is not None), None)
    if recorded is None:
        return ""
    settings = dict(recorded)
    if searches:
        settings["trials"] = searches[0].settings["trials"]
    settings["seeds"] = max(1 + one.run.seed for one in runs)
    tuned = _tuned(searches)
    trained = _trained(one.run.id.row for one in runs)
    first, *others = _commands(study, tuned, trained)
    words = [word for key, value in settings.items() for word in _set(key, value)]
    return "\n".join(shlex.join(command) for command in ([*first, *words], *others))


def _commands(
    study: str, tuned: dict[int, list[str]], trained: dict[tuple[str, ...], list[str]]
) -> list[list[str]]:
    """Return one `study` if it suffices, else a `tune` for each number of trials and a `train` for each configs."""
    if len(tuned) == len(trained) == 1:
        [searched], [(configs, names)] = tuned.values(), trained.items()
        if set(names) <= set(searched):
            return [[*_command("study", study, searched), *_set("configs", ",".join(configs))]]
    tunes = [[*_command("tune", study, tuned[trials]), *_set("trials", trials)] for trials in sorted(tuned)]
    trains = [
        _command("train", study, names) + [word for config in configs for word in ("--config", config)]
        for configs, names in trained.items()
    ]
    if tunes:
        tunes[0] = tunes[0][:-2]  # the first command has all settings
    return [*tunes, *trains]


def _command(name: str, study: str, optimizers: Sequence[str]) -> list[str]:
    return ["optstudy", name, "--study", study, *(word for opt in optimizers for word in ("--opt", opt))]


def _set(key: str, value: Any) -> list[str]:
    return ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]


def _tuned(searches: Iterable[SearchResult]) -> dict[int, list[str]]:
    """Group the searched optimizers by their trials, which may differ inside a study."""
    tuned: dict[int, list[str]] = {}
    for one in searches:
        tuned.setdefault(one.settings["trials"], []).append(one.optimizer)
    return tuned


def _trained(rows: Iterable[RowKey]) -> dict[tuple[str, ...], list[str]]:
    """Group the trained optimizers by their configurations."""
    configs: dict[str, dict[str, None]] = {}
    for key in rows:
        configs.setdefault(key.optimizer, {})[key.config] = None
    trained: dict[tuple[str, ...], list[str]] = {}
    for optimizer, own in configs.items():
        trained.setdefault(tuple(own), []).append(optimizer)
    return trained
