"""Build an optimizer from a class path and arguments."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from optstudy.errors import UsageError
from optstudy.workloads.user_code import is_users_own, load_object, without_partial


class OptimizerError(UsageError):
    """An optimizer cannot be built from its space; callers add the name of the space file."""


def load_factory(class_path: str) -> Callable[..., Any]:
    """Import an optimizer's class, or a function of the user's that returns an optimizer; nothing is called.

    Raises:
        OptimizerError: If it is missing or something else, such as a function of an installed package.
    """
    try:
        factory = load_object(class_path)
    except UsageError as error:
        raise OptimizerError(str(error)) from error
    made_by = without_partial(factory)
    is_class = isinstance(made_by, type)
    if not (issubclass(made_by, torch.optim.Optimizer) if is_class else is_users_own(made_by)):
        raise OptimizerError(
            f"{class_path} is {reprlib.repr(factory)}; give a subclass of torch.optim.Optimizer,"
            " or a function of a file of yours that returns an optimizer"
        )
    return factory  # type: ignore[no-any-return]  # the user's


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
        OptimizerError: If the class is missing or not an optimizer's, rejects its arguments, or returns something else.
    """
    factory = load_factory(class_path)
    keywords = dict(arguments) if seed is None else {**arguments, "seed": seed}
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
