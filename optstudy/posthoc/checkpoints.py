"""Read a checkpoint's weights, and load them into a matching model."""

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

_NESTED = ("model", "state_dict", "model_state_dict")  # keys of the weights in common checkpoints


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state_dict, or a checkpoint that holds one; only tensors and plain values are accepted.

    Raises:
        UsageError: If the file does not exist.
        OptstudyError: If it holds no weights.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a file written by torch.save")
    try:
        with warnings.catch_warnings(action="ignore"):  # of formats that are rejected below
            content = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise OptstudyError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # torch.load raises errors of many kinds, with long messages
        raise OptstudyError(
            f"{path}: not a file of weights only; write one by torch.save(model.state_dict(), FILE)"
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
            f"{path}: holds no named weights; write one by torch.save(model.state_dict(), FILE)"
        )
    for name, value in content.items():
        if value.layout != torch.strided or value.is_meta or value.is_complex():
            raise OptstudyError(f"{path}: {name} is not a dense tensor of real numbers")
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
        A notice if the names differ and the weights were matched by order, else None.

    Raises:
        UsageError: If the weights do not match; the message names the parameter and the difference.
    """
    expected = model.state_dict()
    if list(weights) != list(expected) and set(weights) != set(expected):
        if [tuple(v.shape) for v in weights.values()] == [tuple(v.shape) for v in expected.values()]:
            model.load_state_dict(dict(zip(expected, weights.values(), strict=True)))
            first, other = next((a, b) for a, b in zip(expected, weights, strict=True) if a != b)
            return f"{source}: different names ({other} for {first}), but the same shapes in order; loaded by order"
        raise UsageError(f"{source}: {_difference(weights, expected)}")
    for name, value in expected.items():
        if weights[name].shape != value.shape:
            raise UsageError(
                f"{source}: {name} has shape {tuple(weights[name].shape)}, but the model's has {tuple(value.shape)}"
            )
    model.load_state_dict(dict(weights))
    return None


def _difference(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected]
    if missing and extra:  # different names: match by order
        for ours, theirs in zip(expected, weights, strict=False):
            if expected[ours].shape != weights[theirs].shape:
                return (
                    f"{theirs} has shape {tuple(weights[theirs].shape)}, where the model has {ours} of shape"
                    f" {tuple(expected[ours].shape)}; it is from a different model"
                )
        missing, extra = list(expected)[len(weights) :], list(weights)[len(expected) :]
    if missing:
        return f"{missing[0]} of shape {tuple(expected[missing[0]].shape)} is missing; it is from a different model"
    return f"{extra[0]} is not a parameter of the model; it is from a different model"
