"""A file of weights, and whether it fits a model."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from optstudy.errors import OptstudyError, UsageError

_NESTED = ("model", "state_dict", "model_state_dict")  # where common checkpoints keep the weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state_dict, or a checkpoint that holds one; nothing but tensors and plain values is accepted.

    Raises:
        UsageError: If there is no such file.
        OptstudyError: If it holds no weights.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give one that torch.save wrote")
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptstudyError(
            f"{path}: not a file of weights alone ({reason}); save model.state_dict()"
        ) from error
    for name in _NESTED:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise OptstudyError(f"{path}: holds no weights by name; save model.state_dict()")
    return dict(found)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> str | None:
    """Load weights into a model.

    Returns:
        A notice where the names differ and only the shapes, in their order, tell what belongs where.

    Raises:
        UsageError: If they do not fit; the message says which parameter and how.
    """
    wanted = model.state_dict()
    if list(weights) != list(wanted) and set(weights) != set(wanted):
        if [tuple(v.shape) for v in weights.values()] == [tuple(v.shape) for v in wanted.values()]:
            model.load_state_dict(dict(zip(wanted, weights.values(), strict=True)))
            first, other = next((a, b) for a, b in zip(wanted, weights, strict=True) if a != b)
            return f"{path}: other names ({other} for {first}), but the same shapes in the same order; loaded by order"
        raise UsageError(f"{path}: {_difference(weights, wanted)}")
    for name, value in wanted.items():
        if weights[name].shape != value.shape:
            raise UsageError(
                f"{path}: {name} has shape {tuple(weights[name].shape)}, but the model's has {tuple(value.shape)}"
            )
    model.load_state_dict(dict(weights))
    return None


def _difference(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    missing = [name for name in wanted if name not in weights]
    surplus = [name for name in weights if name not in wanted]
    if missing and surplus:
        for ours, theirs in zip(wanted, weights, strict=False):
            if wanted[ours].shape != weights[theirs].shape:
                return (
                    f"{theirs} has shape {tuple(weights[theirs].shape)}, where the model has {ours} of shape"
                    f" {tuple(wanted[ours].shape)}; it is of another model"
                )
    if missing:
        return f"{missing[0]} of shape {tuple(wanted[missing[0]].shape)} is missing; it is of another model"
    return f"{surplus[0]} is none of the model's parameters; it is of another model"
