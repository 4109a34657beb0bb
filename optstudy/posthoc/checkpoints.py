"""Read a checkpoint's weights, and load them into a matching model."""

import argparse
import contextlib
import importlib.util
import io
import itertools
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optstudy.errors import UsageError
from optstudy.records.plan import Plan
from optstudy.workloads.datasets import load
from optstudy.workloads.models import build_model

# Components of names that torch's wrappers insert: DataParallel, compile, FSDP and activation checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Of batch norm, where old files lack it, and of averaged models: no weights.
_COUNTERS = {"num_batches_tracked", "n_averaged"}
_SCALAR = np.float64(0).__reduce__()[0]  # the function that unpickles numpy's numbers
# Plain values beside weights, such as arguments and scores, which torch does not read unless they are named.
_PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.float32, np.float64)),
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before numpy 2
]
_MAX_NAMES = 8  # in a message
_REAL = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.int8),
    *(torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64),
}
COMPLEX = {torch.complex64, torch.complex128}
_MOST_LEVELS = 20  # of nested dictionaries
_MOST_REPEATED = 2**30  # bytes of a tensor that a file holds as a view of fewer numbers
_ADVICE = "write one by torch.save(model.state_dict(), FILE)"


def read_weights(path: Path, model: nn.Module | None = None) -> dict[str, Tensor]:
    """Read a state_dict, or a checkpoint that holds one; only tensors and plain values are accepted.

    Args:
        path: A file written by torch.save, or a safetensors file.
        model: The model for the weights, which decides between several state_dicts in the file.

    Raises:
        UsageError: If the file does not exist or holds no finite weights, it is not clear which of its state_dicts is
            meant, or its only one, nested in other content, does not fit the model.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a file written by torch.save")
    content = _read_file(path)
    found = dict(_state_dicts(content))
    if not found:
        raise UsageError(f"{path}: holds no named weights{_keys(content)}; {_ADVICE}")
    dense = {key: weights for key, weights in found.items() if all(map(is_dense, weights.values()))}
    if not dense:
        name = next(name for weights in found.values() for name in weights if not is_dense(weights[name]))
        raise UsageError(f"{path}: {name} is not a dense tensor of real numbers")
    key = _choose(dense, model, path)
    if key and model and (difference := _difference(model, found[key])):
        raise UsageError(f"{path}: its entry {key} was opened{_keys(content)}: {difference}")
    weights = found[key]
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise UsageError(f"{path}: {name} holds numbers that are not finite")
    return dict(weights)


def is_dense(value: Tensor, others: Collection[torch.dtype] = ()) -> bool:
    """Whether a tensor has real numbers in memory, and does not repeat a few of them beyond all memory.

    Args:
        value: The tensor.
        others: Types of numbers that are accepted as well.
    """
    if value.layout != torch.strided or value.is_meta or value.dtype not in {*_REAL, *others}:
        return False
    return value.nbytes <= max(value.untyped_storage().nbytes(), _MOST_REPEATED)


def fit_checkpoint(plan: Plan, path: Path) -> tuple[bytes, str | None]:
    """Read weights for a plan's model; a worker's task. See `read_weights` and `load_weights`.

    Returns:
        A state_dict as written by torch.save, and a notice.
    """
    model = build_model(plan.model, load(plan.dataset))
    notice = load_weights(model, read_weights(path, model), str(path))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue(), notice


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> str | None:
    """Load weights into a model.

    Weights are matched by name, after the components that wrappers insert (``module``, ``_orig_mod``) and a prefix that
    all names have are taken away. If no name is in common, they are matched by the words that tell the names apart
    (``enc.fc`` and ``enc_linear``), else by order, which decides only between names that differ in nothing but
    ascending numbers.

    Args:
        model: The model.
        weights: Weights by name.
        source: Their source, for messages.

    Returns:
        A notice if the names differ, else None.

    Raises:
        UsageError: If the weights do not match; the message names the parameter and the difference.
    """
    try:
        names, notice = _match(model, weights)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None
    model.load_state_dict({ours: weights[theirs] for ours, theirs in names.items()}, strict=False)
    return notice and f"{source}: {notice}"


def _read_file(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"  # after the length of its header, in JSON
        if is_safetensors:
            return _read_safetensors(path)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, weights_only=True, map_location="cpu")  # warns of formats rejected below
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); {_ADVICE}") from error
    except Exception as error:  # torch.load raises errors of many kinds, with long messages
        raise UsageError(f"{path}: not a file of weights only{_objects(path)}; {_ADVICE}") from error


def _objects(path: Path) -> str:
    """Name the classes of a file that are not read, since reading them could run code."""
    with contextlib.suppress(Exception), torch.serialization.safe_globals(_PLAIN):  # not a file of torch
        if names := torch.serialization.get_unsafe_globals_in_checkpoint(path):
            return f" (it also holds {_listed(sorted(names))})"
    return ""


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if importlib.util.find_spec("safetensors") is None:
        raise UsageError(f"{path}: a safetensors file; to read it: pip install 'optstudy[safetensors]'")
    from safetensors.torch import load_file

    return load_file(path)


def _state_dicts(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the state_dicts in nested dictionaries, each with the path of keys to it."""
    if not isinstance(content, dict) or depth > _MOST_LEVELS:
        return
    if content and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        yield path, content
        return
    for key, value in content.items():
        if isinstance(key, str):  # those of an optimizer's state are numbers
            yield from _state_dicts(value, f"{path}.{key}" if path else key, depth + 1)


def _keys(content: Any) -> str:
    return f" (its keys are {_listed(map(str, content))})" if isinstance(content, dict) and content else ""


def _listed(names: Iterable[str]) -> str:
    first = list(itertools.islice(names, _MAX_NAMES + 1))
    return ", ".join(first[:_MAX_NAMES]) + ", ..." * (len(first) > _MAX_NAMES)


def _choose(found: Mapping[str, Mapping[str, Tensor]], model: nn.Module | None, path: Path) -> str:
    """Return the key of the only state_dict, or of the only one that fits the model."""
    differences = {key: _difference(model, weights) if model else None for key, weights in found.items()}
    fitting = list(found) if len(found) == 1 else [key for key, what in differences.items() if what is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(
            f"{path}: holds several state_dicts ({', '.join(fitting)});"
            " save the one to use: torch.save(torch.load(FILE)[KEY], NEW_FILE)"
        )
    reasons = "; ".join(f"{key}: {what}" for key, what in differences.items())
    raise UsageError(f"{path}: holds several state_dicts, but none of the model ({reasons})")


def _difference(model: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """Return why weights do not match a model; None if they do."""
    try:
        _match(model, weights)
    except ValueError as error:
        return str(error)
    return None


def _match(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, str], str | None]:
    """Return the name in ``weights`` for each name in the model, and a notice if they differ.

    Raises:
        ValueError: If they do not match.
    """
    expected: dict[str, Tensor] = model.state_dict(keep_vars=True)
    pairs = itertools.product(_without_prefixes(expected), _without_prefixes(weights))
    ours, theirs = max(pairs, key=lambda pair: len(pair[0].keys() & pair[1].keys()))
    common = [name for name in ours if name in theirs]
    if not common:
        names, notice = _match_other_names(expected, weights)
        _check_tied(expected, weights, names)
        return names, notice
    present = {id(expected[ours[name]]) for name in common}  # of a tied parameter, one name is enough
    missing = [ours[name] for name in ours if name not in theirs and id(expected[ours[name]]) not in present]
    extra = [theirs[name] for name in theirs if name not in ours]
    names = {ours[name]: theirs[name] for name in common}
    _check_shapes(expected, weights, names)
    _check_complete(expected, missing, extra)
    _check_tied(expected, weights, names)
    own, other = next(iter(names.items()))
    return (
        names,
        None
        if own == other
        else f"different names ({other} for {own}), but the same after a prefix; loaded by name",
    )


def _without_prefixes(names: Iterable[str]) -> list[dict[str, str]]:
    """Return the names by their shorter forms: as they are, without wrappers, and without common prefixes."""
    names = list(names)
    forms = [[name.split(".") for name in names]]
    forms.append([[part for part in parts[:-1] if part not in _WRAPPERS] + parts[-1:] for parts in forms[0]])
    while all(len(parts) > 1 and parts[0] == forms[-1][0][0] for parts in forms[-1]):
        forms.append([parts[1:] for parts in forms[-1]])
    mapped = [{".".join(parts): name for parts, name in zip(form, names, strict=True)} for form in forms]
    return [mapping for mapping in mapped if len(mapping) == len(names)]


def _match_other_names(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> tuple[dict[str, str], str]:
    """Match weights of which none has the model's name, by words of the names or by order."""
    names = _match_by_words(_weights_among(expected), _weights_among(weights))
    if not names:
        return _match_by_order(expected, weights)
    _check_shapes(expected, weights, names)
    own, other = next(iter(names.items()))
    return names, f"different names ({other} for {own}), but the same words tell them apart; loaded by name"


def _match_by_words(ours: Iterable[str], theirs: Iterable[str]) -> dict[str, str]:
    """Match names by the words that tell them apart, such as ``enc.fc`` and ``enc_linear``; empty unless all match."""
    own, other = _words(ours), _words(theirs)
    return {own[words]: other[words] for words in own} if own.keys() == other.keys() else {}


def _words(names: Iterable[str]) -> dict[tuple[str, ...], str]:
    """Return the names by their words, without those that all names have; empty if that leaves none or two the same."""
    split = {name: re.split(r"[._]", name) for name in names}
    shared = set.intersection(*map(set, split.values())) if split else set()
    mapping = {tuple(word for word in words if word not in shared): name for name, words in split.items()}
    return mapping if len(mapping) == len(split) and () not in mapping else {}


def _match_by_order(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> tuple[dict[str, str], str]:
    """Match weights whose names say nothing by their order.

    Raises:
        ValueError: If shapes differ, or names of equal shape differ in more than ascending numbers.
    """
    ours, theirs = _weights_among(expected), _weights_among(weights)
    names = dict(zip(ours, theirs, strict=False))
    _check_shapes(expected, weights, names)
    _check_complete(expected, ours[len(theirs) :], theirs[len(ours) :])
    for alike in _alike(expected, names):
        if not (_differ_in_order(alike) and _differ_in_order([names[own] for own in alike])):
            found, wanted = _listed(names[own] for own in alike), _listed(alike)
            raise ValueError(
                f"{found} could be {wanted} of the model in any order, since they have the same shape and other names;"
                " rename them as in the model"
            )
    own, other = next((own, other) for own, other in names.items() if own != other)
    return names, f"different names ({other} for {own}), but the same shapes in order; loaded by order"


def _alike(expected: Mapping[str, Tensor], names: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield the names of several parameters that only names or order tell apart."""
    groups: dict[Any, list[str]] = {}
    for own, other in names.items():
        leaf = own.rpartition(".")[2]
        kind = leaf if leaf == other.rpartition(".")[2] else None  # a weight is never taken for a bias
        groups.setdefault((expected[own].shape, kind), []).append(own)
    for group in groups.values():
        if len({id(expected[own]) for own in group}) > 1:
            yield group


def _differ_in_order(names: Sequence[str]) -> bool:
    """Whether names differ only in numbers, which ascend."""
    numbers = [[int(number) for number in re.findall(r"\d+", name)] for name in names]
    return len({re.sub(r"\d+", "#", name) for name in names}) == 1 and numbers == sorted(numbers)


def _check_tied(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], names: Mapping[str, str]
) -> None:
    """Raise ValueError if one parameter of the model has two values in the file."""
    first: dict[int, str] = {}
    for own, other in names.items():
        earlier = first.setdefault(id(expected[own]), other)
        values = [weights[name].to(expected[own].dtype).nan_to_num() for name in (earlier, other)]
        if not torch.equal(*values):
            raise ValueError(f"{earlier} and {other} differ, but are one parameter of the model")


def _check_shapes(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], names: Mapping[str, str]
) -> None:
    for own, other in names.items():
        shape, found = tuple(expected[own].shape), tuple(weights[other].shape)
        if shape != found and own == other:
            raise ValueError(f"{own} has shape {found}, but the model's has {shape}")
        if shape != found:
            raise ValueError(
                f"{other} has shape {found}, where the model has {own} of shape {shape};"
                " it is from a different model"
            )


def _check_complete(expected: Mapping[str, Tensor], missing: Sequence[str], extra: Sequence[str]) -> None:
    for name in _weights_among(missing):
        shape = tuple(expected[name].shape)
        raise ValueError(f"{name} of shape {shape} is missing; it is from a different model")
    for name in _weights_among(extra):
        raise ValueError(f"{name} is not a parameter of the model; it is from a different model")


def _weights_among(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.rpartition(".")[2] not in _COUNTERS]
