"""Read a checkpoint's weights, and load them into a model if they fit."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from optstudy.errors import OptstudyError, UsageError
from optstudy.records.plan import Plan
from optstudy.workloads.datasets import load
from optstudy.workloads.models import build_model

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
        with warnings.catch_warnings(action="ignore"):  # about formats that are rejected below
            content = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise OptstudyError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # torch.load raises errors of many kinds, with long messages
        raise OptstudyError(
            f"{path}: not a file of weights alone; write one by torch.save(model.state_dict(), FILE)"
        ) from error
    for name in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(v, Tensor) for v in content.values())
    ):
        raise OptstudyError(
            f"{path}: holds no weights by name; write it by torch.save(model.state_dict(), FILE)"
        )
    for name, value in content.items():
        if value.layout != torch.strided or value.is_meta or value.is_complex():
            raise OptstudyError(f"{path}: {name} is no dense tensor of real numbers")
    return dict(content)


def fit_checkpoint(plan: Plan, path: Path) -> tuple[bytes, str | None]:
    """Read weights for a plan's model; a worker's task. See `read_weights` and `load_weights`.

    Returns:
        A state_dict as written by torch.save, and a notice.
    """
    weights = read_weights(path)
    model = build_model(plan.model, load(plan.dataset))
    notice = load_weights(model, weights, str(path))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue(), notice


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> str | None:
    """Load weights into a model.

    Args:
        model: The model.
        weights: Weights by name.
        source: Their source, for messages.

    Returns:
        A notice if the names differ, and the weights were matched by the order of their shapes; else None.

    Raises:
        UsageError: If the weights do not fit; the message names the parameter and the difference.
    """
    wanted = model.state_dict()
    if list(weights) != list(wanted) and set(weights) != set(wanted):
        if [tuple(v.shape) for v in weights.values()] == [tuple(v.shape) for v in wanted.values()]:
            model.load_state_dict(dict(zip(wanted, weights.values(), strict=True)))
            first, other = next((a, b) for a, b in zip(wanted, weights, strict=True) if a != b)
            return f"{source}: other names ({other} for {first}), the same shapes in the same order; loaded by order"
        raise UsageError(f"{source}: {_difference(weights, wanted)}")
    for name, value in wanted.items():
        if weights[name].shape != value.shape:
            raise UsageError(
                f"{source}: {name} has shape {tuple(weights[name].shape)}, but the model's has {tuple(value.shape)}"
            )
    model.load_state_dict(dict(weights))
    return None


def _difference(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    missing = [name for name in wanted if name not in weights]
    extra = [name for name in weights if name not in wanted]
    if missing and extra:  # other names: match by order
        for ours, theirs in zip(wanted, weights, strict=False):
            if wanted[ours].shape != weights[theirs].shape:
                return (
                    f"{theirs} has shape {tuple(weights[theirs].shape)}, where the model has {ours} of shape"
                    f" {tuple(wanted[ours].shape)}; it is of another model"
                )
        missing, extra = list(wanted)[len(weights) :], list(weights)[len(wanted) :]
    if missing:
        return f"{missing[0]} of shape {tuple(wanted[missing[0]].shape)} is missing; it is of another model"
    return f"{extra[0]} is none of the model's parameters; it is of another model"
