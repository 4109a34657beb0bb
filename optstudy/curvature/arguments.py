"""Arguments that were given in another's place: a message that names them."""

import functools
import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature.containers import describe, describe_fields
from optstudy.curvature.losses import is_changed, uncompiled

CLASSES = ("cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss")
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "BCELoss", "BCEWithLogitsLoss")
ELEMENTWISE = (
    *BINARY,
    *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
    *("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"),
)


def check_model_and_loss(model: Any, loss: Any) -> None:
    """Check that a model is a module, and that a loss can be called.

    Raises:
        TypeError: If not, or if they are each other.
    """
    own_loss = isinstance(model, nn.modules.loss._Loss)  # noqa: SLF001  # their common base class
    swapped = _has_parameters(loss) and not _has_parameters(model)
    if own_loss or swapped or not isinstance(model, nn.Module):
        raise TypeError(f"model is {describe(model)}; give a torch.nn.Module: the order is model, loss, data")
    check_loss(loss)


def check_loss(loss: Any) -> None:
    """Check that a loss can be called.

    Raises:
        TypeError: If it cannot.
    """
    if isinstance(loss, type):
        raise TypeError(f"loss is {describe(loss)}; give an instance, such as {loss.__name__}()")
    if not callable(loss):
        known = isinstance(loss, str) and callable(getattr(functional, loss, None))
        example = f"torch.nn.functional.{loss if known else 'cross_entropy'}"
        raise TypeError(
            f"loss is {describe(loss)}; give a function of outputs and targets, such as {example}: the order is model,"
            " loss, data"
        )


def check_whole(**given: Any) -> None:
    """Check that arguments, given by name, are whole numbers.

    Raises:
        TypeError: If one is not.
    """
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} is {describe(value)}; give a whole number")


def check_options(caller: str, options: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Check that the options that ``caller`` passes on are keyword arguments of ``function``.

    Raises:
        TypeError: If one is not.
    """
    parameters = inspect.signature(function).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise TypeError(
                f"{caller} has no argument {name!r}; further ones are those of {function.__name__}: {', '.join(known)}"
            )


def check_patterns(patterns: Any, model: nn.Module | None = None) -> None:
    """Check that patterns of the names of a model's parameters are strings.

    Raises:
        TypeError: If one is not.
    """
    if patterns is None or isinstance(patterns, str):
        return
    if isinstance(patterns, Tensor | nn.Module | bytes) or not hasattr(patterns, "__iter__"):
        raise TypeError(f"parameters is {_found(model, patterns)}; give names or patterns such as 'layer3.*'")
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(
                f"parameters holds {_found(model, pattern)}; give names or patterns such as 'layer3.*'"
            )


def check_tensor(loss: Any, value: Any, what: str) -> None:
    """Check that one of torch's own losses gets a tensor; another loss may take anything.

    Raises:
        TypeError: If it does not.
    """
    name, _ = _torch_loss(loss)
    if name and not isinstance(value, Tensor):
        raise TypeError(
            f"{what} {describe_fields(value)}, and {name} takes a tensor; give a loss of your own that selects one"
        )


def check_match(loss: Any, outputs: Any, targets: Any) -> None:
    """Check that outputs and targets are what one of torch's own losses takes; another loss may take anything.

    Raises:
        TypeError: If they are no tensors.
        ValueError: If their shapes or types do not match, or a label is not a class.
    """
    check_tensor(loss, outputs, "the model returns")
    check_tensor(loss, targets, "the targets are")
    name, options = _torch_loss(loss)
    if name in CLASSES and outputs.ndim:
        _check_labels(name, outputs, targets, options.get("ignore_index", -100))
    elif name in ELEMENTWISE and outputs.shape != targets.shape:
        raise ValueError(
            f"the outputs have shape {tuple(outputs.shape)} and the targets {tuple(targets.shape)}, and {name} compares"
            " them element by element; give both the same shape"
        )
    elif name in BINARY and not targets.is_floating_point():
        raise ValueError(
            f"the targets are {targets.dtype}, and {name} takes numbers; convert them by .float()"
        )


def explain_inputs(error: Exception, inputs: Any, targets: Any) -> None:
    """Raise ValueError in place of an error of a model that got the targets for its inputs."""
    if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
        return
    if targets.is_floating_point() and not inputs.is_floating_point():
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the model cannot be computed ({reason}); the inputs are {describe(inputs)}, and the targets are"
            f" {describe(targets)}: a batch is (inputs, targets)"
        ) from error


def explain_loss(error: Exception, outputs: Any, targets: Any) -> None:
    """Raise ValueError in place of an error of a user's loss that is about its targets."""
    if isinstance(error, IndexError) or "target" in str(error).lower():
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the loss cannot be computed ({reason}); the outputs are {describe(outputs)}, and the targets are"
            f" {describe(targets)}"
        ) from error


def _check_labels(name: str, outputs: Tensor, targets: Tensor, ignored: int) -> None:
    """Check the targets of a loss of classes, whose second dimension counts them."""
    classes = outputs.shape[1 if outputs.ndim > 1 else 0]
    shape = (*outputs.shape[:1], *outputs.shape[2:])
    if targets.is_floating_point():
        if targets.shape == outputs.shape and name in ("cross_entropy", "CrossEntropyLoss"):
            return
    elif targets.dtype in (torch.int64, torch.uint8) and targets.shape == shape:
        labels = targets[targets != ignored]
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(
                f"the targets range from {int(labels.min())} to {int(labels.max())}, and the model returns {classes}"
                f" classes; {name} takes labels from 0 to {classes - 1}"
            )
        return
    raise ValueError(
        f"the targets are {describe(targets)}, and {name} takes classes as an int64 tensor of shape {shape} for outputs"
        f" of shape {tuple(outputs.shape)}; convert them by .long(), or reshape them"
    )


def _torch_loss(loss: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of one of torch's own losses, and its options; no name for any other."""
    loss = uncompiled(loss)
    if isinstance(loss, functools.partial):
        name, options = _torch_loss(loss.func)
        return name, options | loss.keywords
    if type(loss).__module__ == nn.modules.loss.__name__ and not is_changed(loss):
        return type(loss).__name__, vars(loss)
    if getattr(loss, "__module__", "") == functional.__name__:
        return str(loss.__name__), {}
    return "", {}


def _has_parameters(module: Any) -> bool:
    return isinstance(module, nn.Module) and next(module.parameters(), None) is not None


def _found(model: nn.Module | None, value: Any) -> str:
    """Describe what was given in place of a parameter's name."""
    names = [name for name, p in model.named_parameters() if p is value] if model else []
    return f"the parameter {names[0]} itself" if names else describe(value)
