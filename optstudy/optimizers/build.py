"""Build an optimizer from a class path and arguments."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from optstudy.errors import UsageError
from optstudy.workloads.user_code import load_object


class OptimizerError(UsageError):
    """An optimizer cannot be built from its space; callers add the name of the space file."""


def build_optimizer(
    class_path: str, arguments: Mapping[str, Any], parameters: ParamsT, seed: int | None
) -> torch.optim.Optimizer:
    """Build an optimizer.

    Args:
        class_path: ``"torch.optim.SGD"``, ``"package.module:name"`` or ``"file.py:name"``.
        arguments: Arguments of the constructor besides the parameters, as returned by `Space.arguments`.
        parameters: Tensors or parameter groups, as for torch's optimizers.
        seed: Passed to the constructor as ``seed``; None for an optimizer without randomness.

    Raises:
        OptimizerError: If the class is missing, rejects its arguments, or returns something else.
    """
    try:
        factory = load_object(class_path)
    except UsageError as error:
        raise OptimizerError(str(error)) from error
    keywords = dict(arguments) if seed is None else {**arguments, "seed": seed}
    if not callable(factory):
        raise OptimizerError(f"{class_path} is {factory!r}; give an optimizer class")
    try:
        optimizer = factory(parameters, **keywords)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        listed = ", ".join(f"{name}={value!r}" for name, value in keywords.items())
        raise OptimizerError(f"{class_path} rejects {listed}: {reason}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise OptimizerError(
            f"{class_path} returned a {type(optimizer).__name__}; it must be a torch.optim.Optimizer"
        )
    return optimizer
