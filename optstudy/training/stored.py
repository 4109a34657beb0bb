"""What optimizers and modules keep outside of their `state_dict`: counters, tensors, schedules, inner optimizers.

torch's `state_dict` of an optimizer has the parameter groups and the state of each parameter. Other attributes are
stored here, as plain values and tensors that a file can hold:

- numbers, strings, arrays and tensors, also in lists, tuples, sets and dicts, by their value;
- parameters of the model by their position, and generators by their state;
- inner optimizers by their `state_dict` and their own attributes;
- other objects that have `state_dict` and `load_state_dict`, such as schedulers, by these;
- methods of the optimizer and members of enumerations by their name;
- functions, types and the like, which the constructor makes again, by a description.

Any other attribute of an optimizer would be lost between two epochs, and is refused.
"""

import collections
import enum
import functools
import logging
import random
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from optstudy.optimizers import OptimizerError

Stored = list[Any]  # [kind, ...] of plain values, tensors and lists

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.device, torch.dtype, torch.Size)
_SEQUENCES = (list, tuple, set, frozenset, collections.deque)
_DICTS = (dict, collections.OrderedDict, collections.Counter)
_MAPPINGS = (*_DICTS, collections.defaultdict)
_MADE_AGAIN = (
    torch.layout, torch.memory_format, range, type, types.ModuleType, types.BuiltinFunctionType, logging.Logger,
    RemovableHandle, weakref.ref,
)  # fmt: skip
_NAMED = (type, types.ModuleType, types.BuiltinFunctionType)


class UnsavableError(OptimizerError):
    """An attribute cannot be kept with the state of a run."""


@dataclass(frozen=True)
class Context:
    """What stored values may refer to."""

    parameters: Sequence[Tensor]
    copy: Callable[[Tensor], Tensor]
    visited: list[Optimizer] = field(default_factory=list)  # in the order of the attributes


def load_in_place(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    """Load a `state_dict` into the existing parameter groups, to which schedules and wrappers may refer."""
    groups, state = optimizer.param_groups, optimizer.state
    members = list(groups)
    optimizer.load_state_dict(state_dict)
    own = vars(optimizer)
    if own.get("param_groups", groups) is not groups and len(own["param_groups"]) == len(members):
        for group, loaded in zip(members, own["param_groups"], strict=True):
            _refill(group, dict(loaded))
        groups[:] = members
        own["param_groups"] = groups
    if own.get("state", state) is not state:
        _refill(state, dict(own["state"]))
        own["state"] = state


def _refill(mapping: Any, content: Mapping[Any, Any]) -> None:
    mapping.clear()
    mapping.update(content)


@functools.cache
def _torchs_own() -> frozenset[str]:
    """Attributes of every optimizer: in its `state_dict`, constant, or hooks.

    They are asked of an optimizer only when there is one, whose construction imports TorchDynamo, for seconds.
    """
    return frozenset(vars(Optimizer([torch.zeros(1)], {})))


def _own(optimizer: Optimizer) -> dict[str, Any]:
    """Return the attributes of an optimizer, those in slots included."""
    slots = (name for cls in type(optimizer).__mro__ for name in _slot_names(cls))
    values = {name: getattr(optimizer, name) for name in slots if hasattr(optimizer, name)} | vars(optimizer)
    return {name: value for name, value in values.items() if name not in _torchs_own()}


def _slot_names(cls: type) -> Sequence[str]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def capture_optimizer(optimizer: Optimizer, where: str, context: Context) -> dict[str, Stored]:
    """Return the attributes of an optimizer that its `state_dict` lacks; ``where`` names it in messages."""
    context.visited.append(optimizer)
    stored = {name: store(value, f"{where}.{name}", context) for name, value in _own(optimizer).items()}
    for name in (own for own in sorted(_torchs_own()) if own.endswith("_hooks")):
        for hook in vars(optimizer).get(name, {}).values():
            store(hook, f"{where}.{name}", context)  # raises for one that keeps a state
    return stored


def restore_optimizer(
    optimizer: Optimizer, stored: Mapping[str, Stored], where: str, context: Context
) -> None:
    """Give an optimizer stored attributes, and delete others."""
    context.visited.append(optimizer)
    own = _own(optimizer)
    for name, content in stored.items():
        setattr(optimizer, name, load(content, own.get(name), f"{where}.{name}", context))
    for name in (
        own.keys() - stored.keys() if stored else ()
    ):  # deleted since; an earlier version stored none at all
        delattr(optimizer, name)


def store(value: Any, where: str, context: Context) -> Stored:
    """Return a value in a form that a file can hold.

    Raises:
        UnsavableError: If it has none; the message begins with ``where``.
    """
    if type(value) in PLAIN:
        return ["plain", value]
    if isinstance(value, np.bool | np.number):
        return ["plain", value.item()]
    index = _index(value, context.parameters)
    if index is not None:
        return ["parameter", index]
    return (
        _store_tensor(value, context)
        or _store_generator(value)
        or _store_container(value, where, context)
        or _store_object(value, where, context)
    )


def _store_tensor(value: Any, context: Context) -> Stored | None:
    if isinstance(value, Tensor):
        return ["tensor", context.copy(value), str(value.device), value.requires_grad and value.is_leaf]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return ["array", torch.from_numpy(value.copy())]
    return None


def _store_generator(value: Any) -> Stored | None:
    if isinstance(value, torch.Generator):
        return ["generator", str(value.device), value.get_state()]
    if type(value) is random.Random:
        version, words, gauss = value.getstate()
        return ["random", version, torch.tensor(words), gauss]
    if isinstance(value, np.random.Generator):
        return ["bits", _plain(value.bit_generator.state)]
    return None


def _plain(state: Any) -> Any:
    """Return the state of numpy's generator with arrays as lists."""
    if isinstance(state, Mapping):
        return {key: _plain(item) for key, item in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _store_container(value: Any, where: str, context: Context) -> Stored | None:
    if type(value) in _SEQUENCES:
        items = [store(item, f"{where}[{i}]", context) for i, item in enumerate(value)]
        return ["sequence", type(value).__name__, items]
    if type(value) in _MAPPINGS:
        pairs = [
            [store(key, where, context), store(item, f"{where}[{_shown(key)}]", context)]
            for key, item in value.items()
        ]
        return ["mapping", type(value).__name__, pairs]
    return None


def _store_object(value: Any, where: str, context: Context) -> Stored:
    if (index := _index(value, context.visited)) is not None:
        return ["visited", index]
    if isinstance(value, Optimizer):
        attributes = capture_optimizer(value, where, context)
        return ["optimizer", map_tensors(value.state_dict(), context.copy), attributes]
    if isinstance(value, enum.Enum):
        return ["member", type(value).__qualname__, value.name]
    if _has_state(value):
        return ["state", store(dict(value.state_dict()), f"{where}.state_dict()", context)]
    owner = _index(getattr(value, "__self__", None), context.visited)
    if isinstance(value, types.MethodType) and owner is not None:
        return ["method", owner, value.__name__]
    return ["made_again", _description(value, where, context)]


def load(stored: Stored, present: Any, where: str, context: Context) -> Any:
    """Return a stored value. Objects that are present are changed in place, since others may refer to them."""
    match stored:
        case ["plain", value]:
            return value
        case ["parameter" | "visited" as kind, index]:
            return (context.parameters if kind == "parameter" else context.visited)[index]
        case ["tensor", tensor, device, requires_grad]:
            return context.copy(tensor).to(device).requires_grad_(requires_grad)
        case ["array", tensor]:
            return tensor.numpy().copy()
        case ["sequence" | "mapping" as kind, name, items]:
            load = _load_sequence if kind == "sequence" else _load_mapping
            return load(name, items, present, where, context)
        case _:
            return _load_object(stored, present, where, context)


def _load_object(stored: Stored, present: Any, where: str, context: Context) -> Any:
    """Give a stored state to an object that the constructor has made again."""
    match stored:
        case ["method", index, name]:
            present = getattr(context.visited[index], name)
        case ["generator", device, state]:
            present = present if isinstance(present, torch.Generator) else torch.Generator(device)
            present.set_state(state)
        case ["random", version, words, gauss]:
            present = present if type(present) is random.Random else random.Random()  # noqa: S311  # no secret
            present.setstate((version, tuple(words.tolist()), gauss))
        case ["bits", state] if isinstance(present, np.random.Generator):
            present.bit_generator.state = state
        case ["member", name, member] if type(present).__qualname__ == name:
            present = type(present)[member]
        case ["optimizer", state_dict, attributes] if isinstance(present, Optimizer):
            load_in_place(present, map_tensors(state_dict, context.copy))
            restore_optimizer(present, attributes, where, context)
        case ["state", content] if _has_state(present):
            present.load_state_dict(load(content, None, where, context))
        case ["made_again", description] if same(description, _description(present, where, context)):
            pass
        case _:
            raise _not_made_again(where)
    return present


def _load_sequence(kind: str, items: list[Stored], present: Any, where: str, context: Context) -> Any:
    known = list(present) if type(present) in (list, tuple, collections.deque) else []
    known += [None] * (len(items) - len(known))
    loaded = [load(item, known[i], f"{where}[{i}]", context) for i, item in enumerate(items)]
    if type(present).__name__ == kind and isinstance(present, list | collections.deque):
        present.clear()
        present.extend(loaded)
        return present
    if kind == "deque":  # its maximal length is not stored
        raise _not_made_again(where)
    return next(sequence for sequence in _SEQUENCES if sequence.__name__ == kind)(loaded)


def _load_mapping(kind: str, pairs: list[list[Stored]], present: Any, where: str, context: Context) -> Any:
    known = present if type(present) in _MAPPINGS else {}
    loaded = {}
    for stored_key, item in pairs:
        key = load(stored_key, None, where, context)
        loaded[key] = load(item, known.get(key), f"{where}[{_shown(key)}]", context)
    if type(present).__name__ == kind:
        _refill(present, loaded)
        return present
    if kind == "defaultdict":  # its factory is not stored
        raise _not_made_again(where)
    return next(mapping for mapping in _DICTS if mapping.__name__ == kind)(loaded)


def _description(value: Any, where: str, context: Context) -> list[Any]:
    """Describe an object that the constructor makes again, with whatever a function closes over."""
    if isinstance(value, _MADE_AGAIN):
        return [type(value).__name__, value.__name__ if isinstance(value, _NAMED) else ""]
    if isinstance(value, functools.partial):
        held: list[Any] = [value.func, value.args, value.keywords]
        return ["partial", [store(item, where, context) for item in held]]
    if isinstance(value, types.MethodType):
        known = isinstance(value.__self__, type)
        return [value.__qualname__, None if known else store(value.__self__, where, context)]
    if isinstance(value, types.FunctionType):
        if value.__globals__.get("__name__", "").startswith("torch."):
            return [value.__qualname__]
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        place = [value.__qualname__, *map(list, value.__code__.co_positions())]
        return [place, [store(item, where, context) for item in (*cells, vars(value))]]
    if value is None:
        return []
    raise UnsavableError(
        f"{where} is an object of type {type(value).__name__}, which is lost between two epochs; a run keeps numbers,"
        " tensors, containers of them, and objects that have state_dict and load_state_dict"
    )


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to each tensor in nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(item, function) for item in value)
    return value


def same(a: Any, b: Any) -> bool:
    """Whether nested containers of tensors and plain values are equal to the bit; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124  # NaN
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))  # noqa: PLR0124  # NaN


def _not_made_again(where: str) -> UnsavableError:
    return UnsavableError(
        f"{where} is lost between two epochs, since the constructor does not make it again as it was; make it in"
        " the constructor, and keep what changes in numbers, tensors or a state_dict"
    )


def _has_state(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def _index(value: object, objects: Sequence[object]) -> int | None:
    return next((index for index, item in enumerate(objects) if item is value), None)


def _shown(key: Any) -> str:
    return f"parameter of shape {tuple(key.shape)}" if isinstance(key, Tensor) else repr(key)
