"""Tensors in nested inputs, targets and outputs: mappings, sequences and records, which keep their types."""

import copy
import dataclasses
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

MAX_PARTS = 4  # of a sequence that is described


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor of floating point in ``dtype``, a complex one in its counterpart, and any other unchanged."""
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def converted(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a value with its tensors on a device, and those of floating point in ``dtype``.

    A record with a method ``to`` is moved by it: part of a `PackedSequence` stays on the CPU.
    """
    moved = map_tensors(value, lambda tensor: tensor.to(device), lambda record: _moved(record, device))
    return map_tensors(moved, lambda tensor: cast(tensor, dtype))


def map_tensors(
    value: Any, function: Callable[[Tensor], Tensor], movable: Callable[[Any], Any] | None = None
) -> Any:
    """Apply a function to each tensor in nested mappings, tuples, lists and records.

    Records are dataclasses, namespaces, and objects with a method ``to``, like PyG's ``Data``. All keep their types,
    and the value itself is not modified.

    Args:
        value: Anything; what is neither tensor, container nor record is returned unchanged.
        function: Applied to each tensor.
        movable: Applied to each object with a method ``to``, in place of mapping its tensors.
    """
    if isinstance(value, Tensor):
        return function(value)
    if movable is not None and _has_to(value) and not isinstance(value, Mapping):
        return movable(value)
    each = functools.partial(map_tensors, function=function, movable=movable)
    if isinstance(value, Mapping):
        return _with_items(value, {key: each(item) for key, item in value.items()})
    if isinstance(value, PackedSequence):  # its other tensors are indices
        return value._replace(data=function(value.data))
    if isinstance(value, tuple | list):
        return _with_parts(value, [each(item) for item in value])
    return _map_record(value, each) if is_record(value) else value


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested containers and records, in the order of `map_tensors`."""
    if isinstance(value, Tensor):
        return [value]
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, PackedSequence):
        parts = [value.data]
    elif isinstance(value, tuple | list):
        parts = value
    elif is_record(value):
        parts = attributes(value).values()
    return [tensor for part in parts for tensor in tensors_in(part)]


def count_examples(targets: Any) -> int:
    """Return the number of examples of a batch: the first dimension of its targets, or of the first tensor in them."""
    return len(targets if isinstance(targets, Tensor) else tensors_in(targets)[0])


def is_namedtuple(value: Any) -> bool:
    """Whether a value is a tuple with names."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def is_record(value: Any) -> bool:
    """Whether a value is a dataclass, a namespace, or another object that can be moved to a device."""
    if isinstance(value, type):
        return False
    return dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace) or _has_to(value)


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots included."""
    names = dict.fromkeys(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        names.update(dict.fromkeys([slots] if isinstance(slots, str) else slots))
    return {
        name: getattr(value, name) for name in names if not name.startswith("__") and hasattr(value, name)
    }


def describe(value: Any) -> str:
    """Describe a value for a message, in a few words."""
    kind = type(value).__name__
    article = "an" if kind[0] in "AEIOUaeiou" else "a"
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{'an' if dtype.startswith('int') else 'a'} {dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, str | bool | int | float) or value is None:
        return f"the string {value!r}" if isinstance(value, str) else str(value)
    if isinstance(value, Mapping):
        return f"{article} {kind} with the keys {', '.join(map(str, value))}" if value else f"an empty {kind}"
    if isinstance(value, tuple | list):
        parts = map(str, value._fields) if is_namedtuple(value) else map(describe, value[:MAX_PARTS])  # type: ignore[union-attr]
        return f"{article} {kind} of {len(value)} ({', '.join(parts)})"
    name = getattr(value, "__name__", None) if callable(value) else None
    return (
        f"{'the class' if isinstance(value, type) else 'the function'} {name}"
        if name
        else f"{article} {kind}"
    )


def describe_fields(value: Any) -> str:
    """Describe an object with the names of its parts."""
    fields = attributes(value) if not isinstance(value, Mapping | tuple | list | Tensor) else {}
    names = [name for name in fields if not name.startswith("_")]
    return f"{describe(value)} with {', '.join(names)}" if names else describe(value)


def _has_to(value: Any) -> bool:
    return callable(getattr(value, "to", None)) and not isinstance(value, type | nn.Module)


def _with_parts(value: Any, parts: list[Any]) -> Any:
    """Return a tuple or a list of the same type with other parts; a plain one if its type takes other arguments."""
    if is_namedtuple(value):
        return value._make(parts)
    try:
        return type(value)(parts)
    except TypeError:
        return tuple(parts) if isinstance(value, tuple) else parts


def _map_record(value: Any, function: Callable[[Any], Any]) -> Any:
    changed = {name: function(item) for name, item in attributes(value).items() if tensors_in(item)}
    record = _shallow_copy(value) if changed else value
    for name, item in changed.items():
        object.__setattr__(record, name, item)  # a dataclass may be frozen
    return record


def _moved(record: Any, device: torch.device) -> Any:
    """Move a record by its own method, which may modify it, hence a copy."""
    return record if {t.device for t in tensors_in(record)} == {device} else _shallow_copy(record).to(device)


def _with_items(mapping: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """Return a mapping of the same type with other values."""
    if type(mapping) is dict:
        return items
    if not isinstance(mapping, MutableMapping):
        return type(mapping)(items)  # type: ignore[call-arg]  # as those of the standard library
    changed: MutableMapping[Any, Any] = _shallow_copy(mapping)
    for key, item in items.items():
        changed[key] = item
    return changed


def _shallow_copy(value: Any) -> Any:
    """Copy an object with the dicts and lists that it holds, so that setting an item leaves the original unchanged."""
    copied = copy.copy(value)
    if not isinstance(value, dict | tuple) and not hasattr(type(value), "__copy__"):
        for name, item in _own_containers(value):
            object.__setattr__(copied, name, copy.copy(item))
    return copied


def _own_containers(value: Any) -> Iterator[tuple[str, Any]]:
    return ((name, item) for name, item in attributes(value).items() if isinstance(item, dict | list))
