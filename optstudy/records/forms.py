"""The form of each record in JSON and npz files: its field names, and how it is read and written."""

import collections
import dataclasses
import functools
import json
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from optstudy.errors import OptstudyError, suggestion

T = TypeVar("T")


def _names(text: str) -> Mapping[str, str]:
    """Read ``field`` or ``field=name_in_files``, separated by spaces."""
    pairs = (word.partition("=") for word in text.split())
    return {field: name or field for field, _, name in pairs}


# A contract: files of studies have these names, and the keys of runs are hashes of them. A field that is listed here
# is always written. Any other field needs a default and is written, under its own name, only if it differs from it,
# so that existing keys and files remain valid.
FORMS: Mapping[str, Mapping[str, str]] = {
    "Plan": _names(
        "dataset split model loss method epochs sweep_epochs batch_size seed device threads trace deterministic"
    ),
    "Split": _names("role validation size seed"),
    "Method": _names("optimizer arguments needs seeded hessian_products"),
    "Trace": _names("samples last every seed"),
    "EpochRecord": _names(
        "epoch train_loss train_accuracy heldout_loss heldout_accuracy gradient_norm seconds finished_at gradients"
        " hessian_products exact_loss exact_accuracy full_gradient_norm"
    ),
    "Observation": _names("probe step values"),
    "Rung": _names("epochs observations outcome predicted problem machine"),
    "Pace": _names("step_seconds steps timed_at"),
    "Trial": _names("number params state score scores epochs gradient_work"),
    "Finalist": _names("trial seeds scores gradient_work"),
    "SearchResult": _names("study space objective trials best finalists importances settings"),
    "Space": _names(
        "name optimizer needs seeded hessian_products tuples fixed search default paper source"
    ),
    "Range": _names("name low high log complement integer why"),
    "Choice": _names("name choices why"),
    "FinalRun": _names(
        "run_id study optimizer config seed outcome train_accuracy test_accuracy paper_setting seconds"
        " gradient_work margin params target cost_to_target=reached curvature=ending steps step_seconds files separated"
        " finished_at key"
    ),
    # In addition, the archive has `facts` and `sources` of a run's Provenance, its `plan` and its `epochs`.
    "CostToTarget": _names("epochs seconds gradient_work"),
    "FinalCurvature": _names("lambda_1 lambda_2 ratio ratio_low ratio_high verdict trace loss_rise"),
    # Arrays of npz files.
    "Predictions": _names("labels predicted classes"),
    "EigenTrace": _names(
        "step values residuals ratio low high verdict sign verified probability angle gradient_share products"
        " preconditioned_step preconditioned"
    ),
    "CurvatureResult": _names(
        "samples values residuals ratio verdict probability dtype products trace distances line line_model plane"
        " plane_model grid density spread change"
    ),
}  # fmt: skip
_LONGEST_NAME = 40  # characters of a name in a message
_MOST_LEVELS = 100  # of nested lists and objects
_LONGEST_INT = 20  # characters of a whole number of 64 bits, with its sign
NULL_IS_NAN = ("FinalCurvature",)  # records whose numbers may be nan, which JSON cannot express


class FormError(OptstudyError, ValueError):
    """A file does not contain the expected record."""


class StoredField(NamedTuple):
    """One field of a record and its form in files."""

    field: str  # name in Python
    name: str  # name in files
    kind: Any  # type annotation
    always: bool  # written even if it equals the default
    default: Any  # dataclasses.MISSING if it has none


@functools.cache
def stored_fields(record: type) -> tuple[StoredField, ...]:
    """Return the fields of a record, in order."""
    names = next((FORMS[base.__name__] for base in record.__mro__ if base.__name__ in FORMS), {})
    hints = get_type_hints(record)
    return tuple(
        StoredField(
            stored.name,
            names.get(stored.name, stored.name),
            hints[stored.name],
            stored.name in names,
            stored.default if stored.default_factory is dataclasses.MISSING else stored.default_factory(),
        )
        for stored in dataclasses.fields(record)
    )


def to_form(value: Any) -> Any:
    """Return the form of a record in files and keys: dicts, lists and plain values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            stored.name: to_form(getattr(value, stored.field))
            for stored in stored_fields(type(value))
            if stored.always or getattr(value, stored.field) != stored.default
        }
    if isinstance(value, Mapping):
        return {name: to_form(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_form(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_json(kind: type[T], data: bytes | str, where: str) -> T:
    """Read a record, or a tuple of records, from JSON.

    Raises:
        FormError: If the text is not JSON, or does not contain the record.
    """
    return from_form(kind, parse_json(data, where), where)


def parse_json(data: bytes | str, where: str) -> Any:
    """Parse JSON with finite numbers, whose whole numbers have at most 64 bits.

    Raises:
        FormError: If the text is something else.
    """
    try:
        content = json.loads(
            data,
            parse_constant=_number,
            parse_float=_number,
            parse_int=_whole,
            object_pairs_hook=_object,
        )
        check_limits(content)
    except ValueError as error:
        raise FormError(f"{where} is damaged (it is not JSON: {error})") from error
    except RecursionError as error:
        raise FormError(f"{where} is damaged (it is nested too deeply)") from error
    return content


def check_limits(content: Any) -> None:
    """Check parsed JSON or TOML: every program could read its whole numbers, and no function exhausts the stack.

    Raises:
        ValueError: If a whole number has more than 64 bits, or lists and objects are nested in more than 100 levels.
    """
    level: list[Any] = [[content]]
    for _ in range(_MOST_LEVELS):
        items = [item for part in level for item in (part.values() if isinstance(part, dict) else part)]
        if any(type(item) is int and not -(2**63) <= item < 2**64 for item in items):
            raise ValueError("a whole number has more than 64 bits")
        level = [item for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(f"it is nested in more than {_MOST_LEVELS} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"it has {reprlib.repr(twice)} twice in one object")
    return content


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} is not finite")
    return number


def _whole(text: str) -> int:
    if len(text) > _LONGEST_INT or not -(2**63) <= (number := int(text)) < 2**64:
        raise ValueError(f"a whole number of {len(text)} digits has more than 64 bits")
    return number


def from_form(kind: type[T], content: Any, where: str, path: str = "") -> T:
    """Read a record from its form, as parsed from JSON; the inverse of `to_form`.

    Args:
        kind: The record class, or an annotation of records such as ``tuple[EpochRecord, ...]``.
        content: The parsed JSON.
        where: The file, for messages: ``plan.json of run 1a2b``.
        path: The place of the record in the file, for messages: ``runs[3].plan``.

    Raises:
        FormError: If a value is missing or of the wrong type, or a name is unknown.
    """
    record: T = _read(kind, content, where, path)
    return record


def _read(kind: Any, content: Any, where: str, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    match content:
        case _ if (
            kind is Any or type(content) in _scalars(kind) or (origin is Literal and content in arguments)
        ):
            return content
        case dict() if dataclasses.is_dataclass(kind):
            return _record(kind, content, where, path)
        case dict() if origin in (dict, Mapping):
            return {
                name: item
                if type(item) in _scalars(arguments[1])  # most items are, and need no path
                else _read(arguments[1], item, where, _join(path, name))
                for name, item in content.items()
            }
        case list() if origin is tuple and arguments[-1] is ...:
            return tuple(
                item
                if type(item) in _scalars(arguments[0])
                else _read(arguments[0], item, where, f"{path}[{n}]")
                for n, item in enumerate(content)
            )
        case str() if kind is Path:
            return Path(content)
        case _ if origin in (Union, UnionType) and (
            candidates := [member for member in arguments if _fits(member, content)]
        ):
            return _read(
                max(candidates, key=lambda member: _count_known_names(member, content)), content, where, path
            )
    raise FormError(f"{where}{path and f': {path}'} is {reprlib.repr(content)}; it must be {_describe(kind)}")


def _record(kind: Any, content: Mapping[str, Any], where: str, path: str) -> Any:
    fields = stored_fields(kind)
    names = [stored.name for stored in fields]
    if unknown := next((name for name in content if name not in names), None):
        raise FormError(f"{where}: {_join(path, unknown)} is unknown{suggestion(unknown, names)}")
    values = {}
    for stored in fields:
        if stored.name in content:
            item = content[stored.name]
            is_nan = item is None and stored.kind is float and kind.__name__ in NULL_IS_NAN
            values[stored.field] = (
                math.nan if is_nan else _read(stored.kind, item, where, _join(path, stored.name))
            )
        elif stored.default is dataclasses.MISSING:
            raise FormError(
                f"{where}: {_join(path, stored.name)} is missing; it must be {_describe(stored.kind)}"
            )
    try:
        return kind(**values)
    except OptstudyError as error:  # raised by a record that checks its own values
        raise FormError(f"{where}: {path and f'{path}: '}{error}") from None


def _join(path: str, name: str) -> str:
    shown = name if name.isprintable() and 0 < len(name) <= _LONGEST_NAME else reprlib.repr(name)
    return f"{path}.{shown}" if path else shown


@functools.cache
def _scalars(kind: Any) -> frozenset[type]:
    """Return the plain types that an annotation allows."""
    if get_origin(kind) in (Union, UnionType):
        return frozenset().union(*map(_scalars, get_args(kind)))
    if kind is float:
        return frozenset((float, int))
    return frozenset((kind,)) if kind in (int, str, bool, NoneType) else frozenset()


def _fits(kind: Any, content: Any) -> bool:
    """Whether the content may belong to a member of a union."""
    match content:
        case dict():
            return dataclasses.is_dataclass(kind) or get_origin(kind) in (dict, Mapping)
        case list():
            return get_origin(kind) is tuple
    return get_origin(kind) is Literal and content in get_args(kind)


def _count_known_names(kind: Any, content: Any) -> int:
    """Return the number of names in the content that are field names of the record."""
    return sum(stored.name in content for stored in stored_fields(kind)) if isinstance(kind, type) else 0


def _describe(kind: Any) -> str:
    """Describe the values that an annotation allows."""
    plain = {
        int: "a whole number",
        float: "a number",
        str: "a string",
        bool: "true or false",
        NoneType: "null",
    }
    if kind in plain:
        return plain[kind]
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_describe, get_args(kind))))
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return "a list" if get_origin(kind) is tuple else "a path" if kind is Path else "an object"
