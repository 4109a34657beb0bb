"""Forms of data: pairs, mappings with named targets, and inputs as a model takes them."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import Dataset, IterableDataset

from optstudy.curvature.containers import describe, describe_fields, is_namedtuple, is_record, tensors_in

# (inputs, targets), or a mapping with the targets under one of TARGETS and keyword arguments of the model.
# Inputs are a tensor or a record, a tuple for model(*inputs), or a mapping for model(**inputs).
Batch = Sequence[Any] | Mapping[str, Any]
Data = Batch | Iterable[Batch]

TARGETS = ("labels", "label", "targets", "target", "y")
PAIR = 2


def check_data(data: Any) -> None:
    """Raise an error for data that is neither a batch nor batches, but could be mistaken for them.

    Raises:
        TypeError: If it is something else, such as a model.
        ValueError: If it is part of a batch, or a data set of single examples.
    """
    if isinstance(data, Tensor):
        raise ValueError(  # noqa: TRY004  # like all other errors in tensors
            "data is a single Tensor; give a batch (inputs, targets), or batches"
        )
    if isinstance(data, tuple) and data and not is_batch(data) and all(isinstance(x, Tensor) for x in data):
        raise ValueError(f"data is {describe(data)}; give a batch (inputs, targets), or batches")
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise ValueError(  # noqa: TRY004  # it has the right items in the wrong form
            f"data is a {type(data).__name__}, a data set of single examples; give batches:"
            " DataLoader(data, batch_size=100), or batch_size=None if its items are batches"
        )
    strange = isinstance(data, str | bytes | PackedSequence | nn.Module)
    if strange or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        found = describe_fields(data) if is_record(data) else describe(data)
        raise TypeError(f"data is {found}; give a batch (inputs, targets), or batches")


def is_batch(data: Any) -> bool:
    """Whether data is a single batch rather than several."""
    if isinstance(data, Mapping):
        return True
    if is_namedtuple(data) and _target_names(data._asdict()):
        return True
    if not isinstance(data, tuple | list) or len(data) != PAIR:
        return False
    return isinstance(data[1], Tensor) or not _are_batches(data, *data)


def _are_batches(data: tuple[Any, ...] | list[Any], first: Any, second: Any) -> bool:
    """Whether two elements are two batches rather than inputs and targets that are no tensor."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and bool(_target_names(first))
    if is_record(first) and type(first) is type(second):
        return isinstance(data, list)
    return (
        isinstance(first, tuple | list)
        and not isinstance(first, PackedSequence)
        and isinstance(second, tuple | list)
    )


def read_batch(batch: Any, model: nn.Module, position: int = 0) -> tuple[Any, Any]:
    """Return the inputs and the targets of a batch.

    Args:
        batch: One element of the data.
        model: Its forward pass tells how the inputs of a mapping are given.
        position: Number of the batch, for messages.

    Raises:
        ValueError: If the meaning of the batch is not clear.
    """
    where = "the first batch" if not position else f"batch {position + 1}"
    named = batch._asdict() if is_namedtuple(batch) and not isinstance(batch, PackedSequence) else batch
    if isinstance(named, Mapping) and (named is batch or _is_named(named)):
        inputs, targets = _named(named, model, f"{where} is {describe(batch)}")
    elif isinstance(batch, tuple | list) and len(batch) == PAIR:
        inputs, targets = batch
    else:
        example = ", such as [(x, y) for x, y, _ in loader], or ((x1, x2), y) for two inputs"
        several = isinstance(batch, tuple | list) and len(batch) > PAIR and not is_namedtuple(batch)
        found = describe_fields(batch) if is_record(batch) else describe(batch)
        raise ValueError(f"{where} is {found}; give pairs (inputs, targets){example * several}")
    _check_arrays(inputs, targets, where)
    _check_targets(targets, where)
    return inputs, targets


def call_arguments(model: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments with which a model takes inputs.

    A tuple or a list is taken apart, and so is a mapping, unless the forward pass takes it as one argument only.
    """
    if isinstance(inputs, Mapping):
        apart: tuple[tuple[Any, ...], dict[str, Any]] = (), {str(key): item for key, item in inputs.items()}
    elif isinstance(inputs, tuple | list) and not isinstance(inputs, PackedSequence):
        apart = tuple(inputs), {}
    else:
        return (inputs,), {}
    whole = (inputs,), dict[str, Any]()
    foreign = is_namedtuple(inputs) and not set(inputs._fields) <= _parameters(model).keys()
    if _takes(model, *whole) and (foreign or not _takes(model, *apart)):
        return whole
    return apart


def _named(batch: Mapping[str, Any], model: nn.Module, found: str) -> tuple[Any, Any]:
    """Return inputs and targets of a mapping."""
    names = _target_names(batch)
    if len(names) != 1:
        problem = (
            f"both {' and '.join(names)} may be the targets" if names else "none is named as the targets"
        )
        raise ValueError(
            f"{found}: {problem}; give pairs (inputs, targets), or one of the keys {', '.join(TARGETS)}"
        )
    (target,) = names
    inputs = {name: item for name, item in batch.items() if name != target}
    if not inputs:
        raise ValueError(f"{found}, so it has no inputs; give pairs (inputs, targets)")
    # A model that takes the targets too, like those of transformers, is called as in training.
    keywords = dict(batch) if target in _parameters(model) else inputs
    if _takes(model, (), keywords):
        return keywords, batch[target]
    if len(inputs) == 1:
        (value,) = inputs.values()
        if len(_positional(model)) == 1 and _takes(model, (value,), {}):
            return (value,), batch[target]
    raise ValueError(
        f"{found}, but {type(model).__name__}.forward takes ({', '.join(_parameters(model))}); give pairs"
        " (inputs, targets), or the arguments of forward and the targets only"
    )


def _target_names(batch: Mapping[str, Any]) -> list[str]:
    return [name for name in batch if name in TARGETS]


def _is_named(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of a named tuple have the targets elsewhere than in the second of two."""
    return bool(_target_names(fields)) and (len(fields) != PAIR or list(fields)[1] not in TARGETS)


def _check_arrays(inputs: Any, targets: Any, where: str) -> None:
    """Raise ValueError for inputs or targets that are arrays of numpy."""
    given = {"the inputs": inputs, "the targets": targets}
    found = [name for name, value in given.items() if type(value).__module__ == "numpy"]
    if found:
        raise ValueError(
            f"{' and '.join(found)} of {where} are {describe(given[found[0]])}; give tensors (torch.as_tensor)"
        )


def _check_targets(targets: Any, where: str) -> None:
    """Raise ValueError for targets that are no tensors, or belong to a single example."""
    if isinstance(targets, bool | int | float) or (isinstance(targets, Tensor) and not targets.ndim):
        raise ValueError(
            f"the targets of {where} are the single number {targets}, so it seems to be one example; give batches,"
            " as a DataLoader does"
        )
    if not tensors_in(targets):
        raise ValueError(f"the targets of {where} are {describe(targets)}; give tensors")


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a forward pass by name."""
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):  # not written in Python
        return {}


def _positional(model: nn.Module) -> list[str]:
    """Return the names of the positional parameters of a forward pass, those without default if there are any."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    every = [p for p in _parameters(model).values() if p.kind in kinds]
    return [p.name for p in every if p.default is p.empty] or [p.name for p in every]


def _takes(model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether a forward pass can be called with these arguments, as far as its signature tells."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # not written in Python
        return True
    try:
        signature.bind(*arguments, **keywords)
    except TypeError:
        return False
    return True
