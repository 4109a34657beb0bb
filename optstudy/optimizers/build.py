"""From a class path and arguments to an optimizer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from optstudy.errors import UsageError
from optstudy.workloads.user_code import load_object


class RefusedError(UsageError):
    """An optimizer cannot be made as its space says; whoever knows the space's file adds it."""


def build_optimizer(
    class_path: str, arguments: Mapping[str, Any], parameters: ParamsT, seed: int | None
) -> torch.optim.Optimizer:
    """Make an optimizer.

    Args:
        class_path: ``"torch.optim.SGD"``, ``"package.module:name"`` or ``"file.py:name"``.
        arguments: What its constructor takes beside the parameters, as `Space.arguments` returns it.
        parameters: Tensors or groups of them, as torch's optimizers take.
        seed: Passed on as ``seed``; None for an optimizer that takes none.

    Returns:
        The optimizer.

    Raises:
        RefusedError: If the class is missing, refuses its arguments, or makes something else.
    """
    try:
        factory = load_object(class_path)
    except UsageError as error:
        raise RefusedError(str(error)) from error
    given = dict(arguments) if seed is None else {**arguments, "seed": seed}
    if not callable(factory):
        raise RefusedError(f"{class_path} is {factory!r}; name a class of optimizers")
    try:
        optimizer = factory(parameters, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise RefusedError(f"{class_path} refuses {shown}: {said}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise RefusedError(
            f"{class_path} made a {type(optimizer).__name__}; it must be a torch.optim.Optimizer"
        )
    return optimizer
