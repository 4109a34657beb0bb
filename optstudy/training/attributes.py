"""What a run keeps outside of the `state_dict` of its optimizer and its model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from optstudy.training.stored import (
    Context,
    Stored,
    UnsavableError,
    capture_optimizer,
    load,
    restore_optimizer,
    store,
)

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def capture_attributes(
    optimizer: Optimizer, parameters: Sequence[Tensor], copy: Callable[[Tensor], Tensor]
) -> dict[str, Stored]:
    """Return the attributes of an optimizer that its `state_dict` lacks.

    Args:
        optimizer: The optimizer.
        parameters: The parameters that it was built with.
        copy: Applied to each tensor.

    Raises:
        UnsavableError: If an attribute cannot be stored; the message names it.
    """
    return capture_optimizer(optimizer, type(optimizer).__name__, Context(parameters, copy))


def restore_attributes(
    optimizer: Optimizer,
    stored: Mapping[str, Stored],
    parameters: Sequence[Tensor],
    copy: Callable[[Tensor], Tensor],
) -> None:
    """Give a newly built optimizer the attributes that `capture_attributes` returned.

    Raises:
        UnsavableError: If the constructor does not make an object again that was stored by its state or name.
    """
    restore_optimizer(optimizer, stored, type(optimizer).__name__, Context(parameters, copy))


def module_attributes(model: nn.Module, copy: Callable[[Tensor], Tensor]) -> dict[str, dict[str, Stored]]:
    """Return what each module keeps outside of its `state_dict`, by its name; what cannot be stored is left out.

    Numbers, tensors and containers of them, and buffers that are not persistent.
    """
    context = Context(list(model.parameters()), copy)
    return {name: _module_attributes(module, name, context) for name, module in model.named_modules()}


def restore_module_attributes(
    model: nn.Module, stored: Mapping[str, Mapping[str, Stored]], copy: Callable[[Tensor], Tensor]
) -> None:
    """Give newly built modules the attributes that `module_attributes` returned."""
    context, modules = Context(list(model.parameters()), copy), dict(model.named_modules())
    for name, attributes in stored.items():
        module = modules[name]
        for key, content in attributes.items():
            holder: Any = module._buffers if key in module._buffers else module.__dict__  # noqa: SLF001  # its own setter checks
            holder[key] = load(content, holder.get(key), f"{name}.{key}", context)


def _module_attributes(module: nn.Module, where: str, context: Context) -> dict[str, Stored]:
    own = {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}
    own |= {name: module._buffers[name] for name in module._non_persistent_buffers_set}  # noqa: SLF001  # no other way
    attributes = {}
    for name, value in own.items():
        try:
            stored = store(value, f"{where}.{name}", context)
        except UnsavableError:
            continue
        if stored[0] not in ("made_again", "method"):
            attributes[name] = stored
    return attributes
