"""What an optimizer keeps outside of its `state_dict`: counters, tensors, schedules and inner optimizers.

torch's `state_dict` has the parameter groups and the state of each parameter. Other attributes of the optimizer are
stored here, as plain values and tensors that a file can hold:

- numbers, strings and tensors, also in lists, tuples, sets and dicts, by their value;
- parameters of the model by their position, and generators by their state;
- inner optimizers by their `state_dict` and their own attributes;
- other objects that have `state_dict` and `load_state_dict`, such as schedulers, by these;
- functions, types and the like, which the constructor makes again, by their name.

Anything else would be lost between two epochs, and is refused.
"""

import collections
import enum
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from optstudy.optimizers import OptimizerError

Stored = list[Any]  # [kind, ...] of plain values, tensors and lists

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.device, torch.dtype, torch.Size)
_SEQUENCES = (list, tuple, set, frozenset, collections.deque)
_DICTS = (dict, collections.OrderedDict, collections.Counter)
_MAPPINGS = (*_DICTS, collections.defaultdict)
_MADE_AGAIN = (
    torch.layout, torch.memory_format, range, enum.Enum, type, types.ModuleType, types.BuiltinFunctionType,
)  # fmt: skip
_TORCHS_OWN = frozenset(vars(Optimizer([torch.zeros(1)], {})))  # in the state_dict, or constant


class UnsavableError(OptimizerError):
    """An attribute cannot be kept with the state of a run."""


@dataclass(frozen=True)
class _Context:
    parameters: Sequence[Tensor]
    copy: Callable[[Tensor], Tensor]
    visited: list[Optimizer] = field(default_factory=list)  # in the order of the attributes


def capture_attributes(
    optimizer: Optimizer, parameters: Sequence[Tensor], copy: Callable[[Tensor], Tensor]
) -> dict[str, Stored]:
    """Return the attributes of an optimizer that its `state_dict` lacks.

    Args:
        optimizer: The optimizer.
        parameters: The parameters that it was built with.
        copy: Applied to each tensor.

    Raises:
        UnsavableError: If an attribute cannot be stored; the message names it.
    """
    return _capture(optimizer, type(optimizer).__name__, _Context(parameters, copy))


def restore_attributes(
    optimizer: Optimizer,
    stored: Mapping[str, Stored],
    parameters: Sequence[Tensor],
    copy: Callable[[Tensor], Tensor],
) -> None:
    """Give a newly built optimizer the attributes that `capture_attributes` returned.

    Raises:
        UnsavableError: If the constructor does not make an object again that was stored by its state or name.
    """
    _restore(optimizer, stored, type(optimizer).__name__, _Context(parameters, copy))


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


def _capture(optimizer: Optimizer, where: str, context: _Context) -> dict[str, Stored]:
    context.visited.append(optimizer)
    own = {name: value for name, value in vars(optimizer).items() if name not in _TORCHS_OWN}
    return {name: _store(value, f"{where}.{name}", context) for name, value in own.items()}


def _restore(optimizer: Optimizer, stored: Mapping[str, Stored], where: str, context: _Context) -> None:
    context.visited.append(optimizer)
    own = vars(optimizer)
    for name, content in stored.items():
        own[name] = _load(content, own.get(name), f"{where}.{name}", context)


def _store(value: Any, where: str, context: _Context) -> Stored:
    if type(value) in PLAIN:
        return ["plain", value]
    if isinstance(value, np.bool | np.number):
        return ["plain", value.item()]
    if (index := _index(value, context.parameters)) is not None:
        return ["parameter", index]
    if isinstance(value, Tensor):
        return ["tensor", context.copy(value), str(value.device), value.requires_grad]
    if isinstance(value, torch.Generator):
        return ["generator", str(value.device), value.get_state()]
    return _store_container(value, where, context) or _store_object(value, where, context)


def _store_container(value: Any, where: str, context: _Context) -> Stored | None:
    if type(value) in _SEQUENCES:
        items = [_store(item, f"{where}[{i}]", context) for i, item in enumerate(value)]
        return ["sequence", type(value).__name__, items]
    if type(value) in _MAPPINGS:
        pairs = [
            [_store(key, where, context), _store(item, f"{where}[{_shown(key)}]", context)]
            for key, item in value.items()
        ]
        return ["mapping", type(value).__name__, pairs]
    return None


def _store_object(value: Any, where: str, context: _Context) -> Stored:
    if (index := _index(value, context.visited)) is not None:
        return ["visited", index]
    if isinstance(value, Optimizer):
        attributes = _capture(value, where, context)
        return ["optimizer", map_tensors(value.state_dict(), context.copy), attributes]
    if _has_state(value):
        return ["state", _store(dict(value.state_dict()), f"{where}.state_dict()", context)]
    return ["made_again", _description(value, where, context)]


def _load(stored: Stored, present: Any, where: str, context: _Context) -> Any:
    """Return a stored value. Objects that are present are changed in place, since others may refer to them."""
    match stored:
        case ["plain", value]:
            return value
        case ["parameter" | "visited" as kind, index]:
            return (context.parameters if kind == "parameter" else context.visited)[index]
        case ["tensor", tensor, device, requires_grad]:
            return context.copy(tensor).to(device).requires_grad_(requires_grad)
        case ["generator", device, state]:
            generator = present if isinstance(present, torch.Generator) else torch.Generator(device)
            generator.set_state(state)
            return generator
        case ["sequence" | "mapping" as kind, name, items]:
            load = _load_sequence if kind == "sequence" else _load_mapping
            return load(name, items, present, where, context)
        case _:
            return _load_object(stored, present, where, context)


def _load_object(stored: Stored, present: Any, where: str, context: _Context) -> Any:
    """Give a stored state to an object that the constructor has made again."""
    match stored:
        case ["optimizer", state_dict, attributes] if isinstance(present, Optimizer):
            load_in_place(present, map_tensors(state_dict, context.copy))
            _restore(present, attributes, where, context)
        case ["state", content] if _has_state(present):
            present.load_state_dict(_load(content, None, where, context))
        case ["made_again", description] if same(description, _description(present, where, context)):
            pass
        case _:
            raise _not_made_again(where)
    return present


def _load_sequence(kind: str, items: list[Stored], present: Any, where: str, context: _Context) -> Any:
    known = list(present) if type(present) in (list, tuple, collections.deque) else []
    known += [None] * (len(items) - len(known))
    loaded = [_load(item, known[i], f"{where}[{i}]", context) for i, item in enumerate(items)]
    if type(present).__name__ == kind and isinstance(present, list | collections.deque):
        present.clear()
        present.extend(loaded)
        return present
    if kind == "deque":  # its maximal length is not stored
        raise _not_made_again(where)
    return next(sequence for sequence in _SEQUENCES if sequence.__name__ == kind)(loaded)


def _load_mapping(kind: str, pairs: list[list[Stored]], present: Any, where: str, context: _Context) -> Any:
    known = present if type(present) in _MAPPINGS else {}
    loaded = {}
    for stored_key, item in pairs:
        key = _load(stored_key, None, where, context)
        loaded[key] = _load(item, known.get(key), f"{where}[{_shown(key)}]", context)
    if type(present).__name__ == kind:
        _refill(present, loaded)
        return present
    if kind == "defaultdict":  # its factory is not stored
        raise _not_made_again(where)
    return next(mapping for mapping in _DICTS if mapping.__name__ == kind)(loaded)


def _description(value: Any, where: str, context: _Context) -> list[Any]:
    """Describe an object that the constructor makes again, with whatever a function closes over."""
    if isinstance(value, _MADE_AGAIN):
        return [type(value).__name__, getattr(value, "__qualname__", str(value))]
    if isinstance(value, functools.partial):
        held: list[Any] = [value.func, value.args, value.keywords]
        return ["partial", [_store(item, where, context) for item in held]]
    if isinstance(value, types.MethodType):
        owner = value.__self__
        known = isinstance(owner, Optimizer | type)
        return [value.__qualname__, None if known else _store(owner, where, context)]
    if isinstance(value, types.FunctionType):
        if value.__globals__.get("__name__", "").startswith("torch."):
            return [value.__qualname__]
        cells = (cell.cell_contents for cell in value.__closure__ or ())
        held = [item for item in cells if isinstance(item, (*PLAIN, *_SEQUENCES, *_MAPPINGS, Tensor))]
        return [value.__qualname__, [_store(item, where, context) for item in (*held, vars(value))]]
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
