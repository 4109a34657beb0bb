"""Read a checkpoint's weights, and load them into a matching model."""

import argparse
import contextlib
import importlib.util
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optstudy.errors import OptstudyError, UsageError
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
_MAX_KEYS = 8  # of a checkpoint, in a message
_ADVICE = "write one by torch.save(model.state_dict(), FILE)"


def read_weights(path: Path, model: nn.Module | None = None) -> dict[str, Tensor]:
    """Read a state_dict, or a checkpoint that holds one; only tensors and plain values are accepted.

    Args:
        path: A file written by torch.save, or a safetensors file.
        model: The model for the weights, which decides between several state_dicts in the file.

    Raises:
        UsageError: If the file does not exist, or it is not clear which of its state_dicts is meant.
        OptstudyError: If it holds no weights.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a file written by torch.save")
    content = _read_file(path)
    found = dict(_state_dicts(content))
    if not found:
        raise OptstudyError(f"{path}: holds no named weights{_keys(content)}; {_ADVICE}")
    weights = found[_choose(found, model, path)]
    for name, value in weights.items():
        if value.layout != torch.strided or value.is_meta or value.is_complex():
            raise OptstudyError(f"{path}: {name} is not a dense tensor of real numbers")
    return dict(weights)


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
    all names have are taken away. Only if no name is in common are they matched by order, where it is unambiguous.

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
    except OptstudyError:
        raise
    except OSError as error:
        raise OptstudyError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # torch.load raises errors of many kinds, with long messages
        raise OptstudyError(f"{path}: not a file of weights only{_objects(path)}; {_ADVICE}") from error


def _objects(path: Path) -> str:
    """Name the classes of a file that are not read, since reading them could run code."""
    with contextlib.suppress(Exception), torch.serialization.safe_globals(_PLAIN):  # not a file of torch
        if names := torch.serialization.get_unsafe_globals_in_checkpoint(path):
            listed = ", ".join(sorted(names)[:_MAX_KEYS])
            return f" (it also holds {listed}{', ...' * (len(names) > _MAX_KEYS)})"
    return ""


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if importlib.util.find_spec("safetensors") is None:
        raise UsageError(f"{path}: a safetensors file; to read it: pip install 'optstudy[safetensors]'")
    from safetensors.torch import load_file

    return load_file(path)


def _state_dicts(content: Any, path: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the state_dicts in nested dictionaries, each with the path of keys to it."""
    if not isinstance(content, dict):
        return
    if content and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        yield path, content
        return
    for key, value in content.items():
        if isinstance(key, str):  # those of an optimizer's state are numbers
            yield from _state_dicts(value, f"{path}.{key}" if path else key)


def _keys(content: Any) -> str:
    if not isinstance(content, dict) or not content:
        return ""
    listed = ", ".join(map(str, itertools.islice(content, _MAX_KEYS)))
    return f" (its keys are {listed}{', ...' * (len(content) > _MAX_KEYS)})"


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
        return _match_by_order(expected, weights)
    present = {id(expected[ours[name]]) for name in common}  # of a tied parameter, one name is enough
    missing = [ours[name] for name in ours if name not in theirs and id(expected[ours[name]]) not in present]
    extra = [theirs[name] for name in theirs if name not in ours]
    names = {ours[name]: theirs[name] for name in common}
    _check_shapes(expected, weights, names)
    _check_complete(expected, missing, extra)
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


def _match_by_order(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> tuple[dict[str, str], str]:
    """Match weights whose names say nothing by their order.

    Raises:
        ValueError: If shapes differ, or the names contradict the order.
    """
    ours, theirs = _weights_among(expected), _weights_among(weights)
    names = dict(zip(ours, theirs, strict=False))
    _check_shapes(expected, weights, names)
    _check_complete(expected, ours[len(theirs) :], theirs[len(ours) :])
    shapes = [value.shape for value in expected.values()]
    if len(set(shapes)) < len(shapes) and not _in_order(names):
        own, other = next(iter(names.items()))
        raise ValueError(
            f"no name is the model's ({other} for {own}), and their order does not show which weights are which;"
            " rename them as in the model"
        )
    own, other = next((own, other) for own, other in names.items() if own != other)
    return names, f"different names ({other} for {own}), but the same shapes in order; loaded by order"


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


def _in_order(names: Mapping[str, str]) -> bool:
    """Whether no name contradicts the order: the same last components, and numbers that ascend."""
    leaves = {own.rpartition(".")[2] for own in names}
    for own, other in names.items():
        leaf = other.rpartition(".")[2]
        if leaf in leaves and leaf != own.rpartition(".")[2]:
            return False
    numbered: dict[str, list[list[int]]] = {}
    for other in names.values():
        numbered.setdefault(re.sub(r"\d+", "#", other), []).append(
            [int(n) for n in re.findall(r"\d+", other)]
        )
    return all(numbers == sorted(numbers) for numbers in numbered.values())


def _weights_among(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.rpartition(".")[2] not in _COUNTERS]
