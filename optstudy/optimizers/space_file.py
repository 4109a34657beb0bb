"""Parse space files (``tuning/spaces/NAME.toml``); each error is one sentence that names the file and the key."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optstudy.errors import UsageError, suggestion
from optstudy.records.inputs import read_toml
from optstudy.records.key import Key
from optstudy.records.plan import NEEDS
from optstudy.records.space import Choice, Range, Scalar, Space

_TABLES, _SEARCH = "tables", "[search.NAME]"
_TOP = (
    Key("optimizer", "", "The optimizer's class, or a function of a file of yours that returns one.",
        '"torch.optim.SGD", "package.module:name" or "file.py:name"'),
    Key("needs", '""', "What `step` takes: nothing, or a closure that returns the loss.", '"" or "closure"'),
    Key("seeded", "false", "Whether the constructor takes `seed`; it then gets the run's.", "true or false"),
    Key("hessian_products", "0", "Hessian-vector products that one step spends.", "a whole number from 0 on"),
    Key("label", "the file's name", "The optimizer's name, as written in papers.", "one line of text"),
    Key("colour", "chosen by name", "Colour in figures.", '"#RRGGBB"'),
    Key("style", "chosen by name", "Line style and marker in figures, in matplotlib's format.", '"--s", "-.^", ":D"'),
    Key("cite", '""', "Citation for the Methods paragraph of a report.", "a BibTeX entry, or the key of one"),
    Key("tuples", "empty", "Constructor arguments that combine several hyperparameters.",
        'lists of names: betas = ["beta_1", "beta_2"]', _TABLES),
    Key("fixed", "empty", "Constructor arguments that are not searched.",
        "numbers, strings, true, false, and lists of these", _TABLES),
    Key("search", "", "The hyperparameters to search.", "a table [search.NAME] for each hyperparameter", _TABLES),
    Key("default", "", "The library's values.", "a value for each searched hyperparameter, inside its range", _TABLES),
    Key("paper", "none", "The paper's values, if it reports any.",
        "values for searched and fixed hyperparameters; the library's values are used for the others", _TABLES),
)  # fmt: skip
_RANGE = (
    Key("low", "", "Least value of the range.", "a number", _SEARCH),
    Key("high", "", "Largest value of the range.", "a number above low", _SEARCH),
    Key("log", "false", "Whether values are drawn uniformly on a log scale.", "true or false", _SEARCH),
    Key("complement", "false", "Whether 1 - value is drawn, with log on a log scale.", "true or false",
        _SEARCH),
    Key("integer", "false", "Whether values are whole numbers.", "true or false", _SEARCH),
)  # fmt: skip
_CHOICE = Key("choices", "", "In place of low and high: the values to choose from.",
              "a list of numbers, strings, true and false", _SEARCH)  # fmt: skip
_WHY = Key("why", "", "Why this range or these choices.", "a sentence", _SEARCH)


def key_table() -> tuple[Key, ...]:
    """Return all keys of a space file: top-level keys, tables, and the keys of [search.NAME]."""
    return (*_TOP, *_RANGE, _CHOICE, _WHY)


def parse_space(path: Path) -> Space:
    """Read a space file.

    Args:
        path: A TOML file; its name without the extension is the optimizer's.

    Raises:
        UsageError: If it cannot be read or is malformed; the message names file, key and value, and what to give.
    """
    document = read_toml(path)
    try:
        return _space(path, document)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _space(path: Path, document: dict[str, Any]) -> Space:
    _check_known("the file", document, [key.name for key in _TOP])
    if not _table(document, "search"):
        raise UsageError("[search] is missing or empty; add a [search.NAME] for each value to be tuned")
    fixed = {name: _constant(f"[fixed] {name}", value) for name, value in _table(document, "fixed").items()}
    search = tuple(_dimension(name, entry) for name, entry in document["search"].items())
    seeded = _flag(document, "seeded", "")
    _check_duplicates(fixed, search, seeded=seeded)
    space = Space(
        name=path.stem,
        optimizer=_text(document, "optimizer", "", 'a class path such as "torch.optim.SGD"'),
        needs=_needs(document.get("needs", "")),
        seeded=seeded,
        hessian_products=_count(document.get("hessian_products", 0)),
        tuples=_tuples(_table(document, "tuples"), {*fixed, *(dimension.name for dimension in search)}),
        fixed=fixed,
        search=search,
        default=_configuration("default", _table(document, "default"), search, ()),
        paper=_configuration("paper", _table(document, "paper"), search, fixed)
        if "paper" in document
        else None,
        source=path,
        label=_look(document, "label"),
        colour=_look(document, "colour"),
        style=_look(document, "style"),
        cite=_look(document, "cite"),
    )
    if outside := space.violations(space.default):
        raise UsageError(f"[default] {outside[0]}; give the library's default, and a range that contains it")
    return space


def _dimension(name: str, entry: Any) -> Range | Choice:
    """Read one [search.NAME]."""
    where = f"[search] {name}"
    if not isinstance(entry, dict):
        raise UsageError(
            f"{where} is {entry!r}; write [search.{name}] with low and high, or choices, and why"
        )
    if "choices" in entry:
        if clash := [key.name for key in _RANGE if key.name in entry]:
            raise UsageError(f"{where} has both choices and {clash[0]}; keep one of them")
        _check_known(where, entry, [key.name for key in (_CHOICE, _WHY)])
        return Choice(name, _choices(where, entry["choices"]), _why(where, entry))
    _check_known(where, entry, [key.name for key in (*_RANGE, _CHOICE, _WHY)])
    if missing := [key for key in ("low", "high") if key not in entry]:
        raise UsageError(f"{where} has no {missing[0]}; give low and high, or choices")
    return _range(name, where, entry)


def _range(name: str, where: str, entry: dict[str, Any]) -> Range:
    log, complement, integer = (_flag(entry, key, where) for key in ("log", "complement", "integer"))
    low, high = (_number(f"{where} {key}", entry[key]) for key in ("low", "high"))
    if low > high:
        raise UsageError(f"{where} has low {low:g} above high {high:g}; swap them or widen the range")
    if low == high:
        raise UsageError(f"{where} has low and high both {low:g}; widen the range, or put it under [fixed]")
    if log and complement and high >= 1:
        raise UsageError(f"{where} has high {high:g}; log of 1 - {name} needs high below 1")
    if log and not complement and low <= 0:
        raise UsageError(f"{where} has low {low:g}; log needs low above 0")
    if integer and complement:
        raise UsageError(f"{where} has both integer and complement; keep one of them")
    if integer and not (isinstance(low, int) and isinstance(high, int)):
        raise UsageError(
            f"{where} runs from {low:g} to {high:g}; integer needs low and high without a decimal point"
        )
    if not integer:
        low, high = float(low), float(high)
    return Range(name, low, high, log, complement, integer, _why(where, entry))


def _choices(where: str, choices: Any) -> tuple[Scalar, ...]:
    if not isinstance(choices, list) or not choices:
        raise UsageError(f"{where} has choices {choices!r}; give a list of at least one value")
    values = tuple(_scalar(f"{where} choices", value) for value in choices)
    for index, value in enumerate(values):
        if Choice("", values[:index], "").contains(value):
            raise UsageError(f"{where} has the choice {value!r} twice; list it once")
    return values


def _configuration(
    table: str, values: dict[str, Any], search: tuple[Range | Choice, ...], others: Iterable[str]
) -> dict[str, Any]:
    """Read [default] or [paper], in the order of the search."""
    known = (*(dimension.name for dimension in search), *others)
    _check_known(f"[{table}]", values, known)
    numbers = {dimension.name for dimension in search if isinstance(dimension, Range)}
    return {
        name: (_number if name in numbers else _constant)(f"[{table}] {name}", values[name])
        for name in known
        if name in values
    }


def _tuples(table: dict[str, Any], known: set[str]) -> dict[str, tuple[str, ...]]:
    for name, parts in table.items():
        if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
            raise UsageError(
                f'[tuples] {name} is {parts!r}; give a list of names such as ["beta_1", "beta_2"]'
            )
        if name in known:
            raise UsageError(f"[tuples] {name} is also under [search] or [fixed]; keep one of them")
        _check_known(f"[tuples] {name}", parts, known)
    return {name: tuple(parts) for name, parts in table.items()}


def _check_duplicates(fixed: dict[str, Any], search: tuple[Range | Choice, ...], *, seeded: bool) -> None:
    names = [dimension.name for dimension in search]
    if duplicates := [name for name in names if name in fixed]:
        raise UsageError(f"{duplicates[0]} is under both [search] and [fixed]; keep one of them")
    if seeded and "seed" in (*names, *fixed):
        raise UsageError("seed is given, but seeded = true uses the seed of the run; remove one of them")


def _check_known(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    known = sorted(known)
    for name in given:
        if name not in known:
            hint = suggestion(name, known) or f"; there are {', '.join(known)}"
            raise UsageError(f"{where} has unknown {name!r}{hint}")


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{name} is {table!r}; write it as a table, [{name}]")
    return table


def _text(table: Mapping[str, Any], key: str, where: str, expected: str) -> str:
    subject = f"{where} {key}".strip()
    if key not in table:
        raise UsageError(f"{subject} is missing; give {expected}")
    if not isinstance(table[key], str) or not table[key].strip():
        raise UsageError(f"{subject} is {table[key]!r}; give {expected}")
    return str(table[key])


def _why(where: str, entry: Mapping[str, Any]) -> str:
    return _text(entry, "why", where, "a sentence that explains this range")


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{where} {key} is {value!r}; give true or false".strip())
    return value


def _number(where: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{where} is {value!r}; give a finite number")
    return value


def _scalar(where: str, value: Any) -> Scalar:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return _number(where, value)
    raise UsageError(f"{where} is {value!r}; give a number, a string, true or false")


def _constant(where: str, value: Any) -> Any:
    """Read a scalar, or a list of scalars, which becomes a tuple."""
    if isinstance(value, list):
        return tuple(_scalar(where, item) for item in value)
    return _scalar(where, value)


_LOOKS = {  # pattern and description of the keys of an optimizer's look
    "label": (r"[^\n]*\S[^\n]*", 'a name of one line, such as "AdaHessian"'),
    "colour": ("#[0-9A-Fa-f]{6}", 'a colour such as "#D55E00"'),
    "style": (
        r"(--|-\.|-|:)[ov^<>8spPhHdDX*]",
        'a matplotlib line style and marker, such as "--s" or "-.^"',
    ),
    "cite": (
        r"[\w:.+/-]+|\s*@\w+\{\s*[\w:.+/-]+\s*,.*\}\s*",
        'the key of a BibTeX entry, or an entry "@article{key, ...}"',
    ),
}


def _look(document: Mapping[str, Any], key: str) -> str:
    """Read a key of the optimizer's look; empty by default."""
    value = document.get(key, "")
    pattern, expected = _LOOKS[key]
    if key in document and not (isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL)):
        raise UsageError(f"{key} is {value!r}; give {expected}")
    return str(value)


def _needs(value: Any) -> str:
    if value not in NEEDS:
        raise UsageError(f"needs is {value!r}; give one of {', '.join(map(repr, NEEDS))}")
    return str(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"hessian_products is {value!r}; give a whole number from 0 on")
    return value
