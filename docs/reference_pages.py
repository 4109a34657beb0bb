"""Writes the reference pages that come from the code: presets, space files and commands.

``python docs/reference_pages.py`` writes them; a test compares each page with what the code gives.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from optstudy.cli.main import COMMANDS, group
from optstudy.optimizers.space_file import key_table as space_keys
from optstudy.study.keys import KEYS

DOCS = Path(__file__).parent
PRESETS = ("smoke", "quick", "mnist", "paper")
PRESET_GROUPS = {"study": "The study", "tuning": "Tuning", "training": "Training", "curvature": "Curvature"}
SPACE_GROUPS = {"": "The optimizer", "tables": "Tables", "[search.NAME]": "A searched hyperparameter"}

PRESETS_PAGE = """\
# Presets

A preset is a TOML file that describes a study. Your own presets go into `tuning/presets/NAME.toml` and are chosen with
`--preset NAME`:

```toml
optimizers = ["sgd", "adamw"]
trials = 20
train_epochs = 10
seeds = 5
```

A key that the file does not contain has its default. On the command line, `--set KEY=VALUE` changes any key; lists are
separated by commas. In Python, the keys are arguments of `Study`, `Study.tune` and `Study.train`.

You may increase `trials` and `seeds`, and add `optimizers` and `configs`, at any time. The other keys of the study are
fixed when it begins, those of tuning when tuning begins, and those of training and curvature when training begins.
"""

SPACES_PAGE = """\
# Space files

A space file describes one optimizer: how it is constructed, and which of its hyperparameters are searched in which
range. `tuning/spaces/NAME.toml` describes the optimizer `NAME`. [Your own](../your-own.md#an-optimizer) shows two
complete files, and `optstudy optimizers NAME` prints what is searched and why.

A key without a default is required; `choices` takes the place of `low` and `high`.
"""

COMMANDS_PAGE = """\
# Commands

Results go to standard output, progress and notices to standard error. The exit status is 0 on success, 1 if the work
failed, and 2 on wrong usage. Every command has `--help`.
"""


class Key(Protocol):
    """A key of a preset or of a space file."""

    @property
    def name(self) -> str:
        """How a file names it."""

    @property
    def group(self) -> str:
        """Which keys it belongs to."""

    @property
    def default(self) -> Any:
        """Its value where a file has none."""

    @property
    def meaning(self) -> str:
        """What it decides."""

    @property
    def values(self) -> str:
        """What it may be."""


def pages() -> dict[str, str]:
    """Return the text of each generated page, by its path in docs/."""
    return {
        "reference/presets.md": presets_page(),
        "reference/spaces.md": spaces_page(),
        "reference/commands.md": commands_page(),
    }


def presets_page() -> str:
    """Return the page of the keys of a preset, and of the packaged presets."""
    parts = [PRESETS_PAGE, *key_sections(list(KEYS.values()), PRESET_GROUPS, default=code)]
    return "\n".join([*parts, "## The presets of the package\n", packaged_presets(list(KEYS))])


def spaces_page() -> str:
    """Return the page of the keys of a space file."""
    return "\n".join([SPACES_PAGE, *key_sections(space_keys(), SPACE_GROUPS, default=marked)])


def key_sections(
    keys: Sequence[Key], groups: Mapping[str, str], default: Callable[[Any], str]
) -> Iterator[str]:
    """Yield a heading and a table for each group of keys."""
    assert {key.group for key in keys} == {*groups}
    for group_name, title in groups.items():
        rows = [
            (f"`{written(key)}`", default(key.default), marked(key.values), sentence(key.meaning))
            for key in keys
            if key.group == group_name
        ]
        yield f"## {title}\n"
        yield table(("key", "default", "values", "meaning"), rows)


def written(key: Key) -> str:
    """Return a key as it is written in a file."""
    if key.group != "tables":
        return key.name
    return "[search.NAME]" if key.name == "search" else f"[{key.name}]"


def packaged_presets(keys: Sequence[str]) -> str:
    """Return what each packaged preset sets, a row for each key that one of them has."""
    folder = DOCS.parent / "tuning" / "presets"
    presets = {name: tomllib.loads((folder / f"{name}.toml").read_text()) for name in PRESETS}
    rows = [
        (f"`{key}`", *(code(preset.get(key)) for preset in presets.values()))
        for key in keys
        if any(key in preset for preset in presets.values())
    ]
    return "An empty cell means the default.\n\n" + table(("key", *(f"`{name}`" for name in PRESETS)), rows)


def commands_page() -> str:
    """Return the page of the commands, from their help."""
    return "\n".join([COMMANDS_PAGE, *(command_section(name) for name in COMMANDS)])


def command_section(name: str) -> str:
    """Return the section of one command: what it does, an example, its arguments and options."""
    context = click.Context(group, info_name="optstudy")
    command = group.get_command(context, name)
    assert command is not None
    assert command.help is not None
    context = click.Context(command, info_name=name, parent=context)
    explanation, example = command.help.strip().split("Example: ")
    usage = " ".join([f"optstudy {name}", *command.collect_usage_pieces(context)])
    records = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [(f"`{option}`", escaped(meaning)) for option, meaning in filter(None, records)]
    return "\n\n".join(
        [
            f"## `optstudy {name}`",
            escaped("\n\n".join(" ".join(part.split()) for part in explanation.strip().split("\n\n"))),
            f"```console\n$ {example.strip()}\n```",
            f"Usage: `{usage}`",
            table(("option", "meaning"), rows),
        ]
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, with a line break at its end."""
    lines = [header, [":--"] * len(header), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(value: Any) -> str:
    """Return a value as code; nothing for None."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | list):
        return ", ".join(f"`{each}`" for each in value)
    return "" if value is None else f"`{value}`"


def marked(text: str) -> str:
    """Return words with what is quoted among them, true and false as code."""
    return re.sub(r'"[^"]*"|\b(true|false)\b', r"`\g<0>`", text)


def sentence(text: str) -> str:
    """Return text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."


def escaped(text: str) -> str:
    """Return text in which Markdown finds no HTML."""
    return text.replace("<", r"\<")


def write() -> None:
    """Write the pages that have changed."""
    for name, text in pages().items():
        path = DOCS / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    write()
