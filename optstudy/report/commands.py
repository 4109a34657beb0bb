"""The commands that reproduce a study, as printed on the report's page."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from optstudy.records.evidence import Evidence
from optstudy.records.naming import RowKey
from optstudy.records.search import SearchResult


def study_commands(evidence: Evidence, study: str) -> str:
    """Return the commands that reproduce a study, one per line, with every key of its specification.

    One command suffices if all optimizers were searched and trained with the same settings. The user's own files must
    be in the folder where the commands are run.

    Returns:
        The commands; empty if no run recorded its study's specification.
    """
    runs = [final for final in evidence.runs if final.run.study == study]
    searches = [search for search in evidence.searches if search.study == study]
    recorded = next((final.specification for final in runs if final.specification is not None), None)
    if recorded is None:
        return ""
    settings = dict(recorded)
    if searches:
        settings["trials"] = searches[0].settings["trials"]
    settings["seeds"] = max(1 + final.run.seed for final in runs)
    by_trials = _group_by_trials(searches)
    by_configs = _group_by_configs(final.run.id.row for final in runs)
    first, *others = _commands(study, by_trials, by_configs)
    words = [word for key, value in settings.items() for word in set_option(key, value)]
    return "\n".join(shlex.join(command) for command in ([*first, *words], *others))


def _commands(
    study: str, by_trials: dict[int, list[str]], by_configs: dict[tuple[str, ...], list[str]]
) -> list[list[str]]:
    """Return one `study`, or a `tune` for each number of trials and a `train` for each list of configurations."""
    if len(by_trials) == len(by_configs) == 1:
        [searched], [(configs, names)] = by_trials.values(), by_configs.items()
        if set(names) <= set(searched):
            return [[*_command("study", study, searched), *set_option("configs", ",".join(configs))]]
    tunes = [
        [*_command("tune", study, by_trials[trials]), *set_option("trials", trials)]
        for trials in sorted(by_trials)
    ]
    trains = [
        _command("train", study, names) + [word for config in configs for word in ("--config", config)]
        for configs, names in by_configs.items()
    ]
    if tunes:
        tunes[0] = tunes[0][:-2]  # the first command has all settings
    return [*tunes, *trains]


def _command(name: str, study: str, optimizers: Sequence[str]) -> list[str]:
    return ["optstudy", name, "--study", study, *(word for opt in optimizers for word in ("--opt", opt))]


def set_option(key: str, value: Any) -> list[str]:
    """Return the words of ``--set`` that give a key its value."""
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    return ["--set", f"{key}={text.lower() if isinstance(value, bool) else text}"]


def _group_by_trials(searches: Iterable[SearchResult]) -> dict[int, list[str]]:
    """Group the searched optimizers by their number of trials, which may differ within a study."""
    by_trials: dict[int, list[str]] = {}
    for search in searches:
        by_trials.setdefault(search.settings["trials"], []).append(search.optimizer)
    return by_trials


def _group_by_configs(rows: Iterable[RowKey]) -> dict[tuple[str, ...], list[str]]:
    """Group the trained optimizers by their configurations."""
    configs: dict[str, dict[str, None]] = {}
    for key in rows:
        configs.setdefault(key.optimizer, {})[key.config] = None
    by_configs: dict[tuple[str, ...], list[str]] = {}
    for optimizer, names in configs.items():
        by_configs.setdefault(tuple(names), []).append(optimizer)
    return by_configs
