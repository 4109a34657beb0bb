"""Build an objective from a model, a loss and data, after checking that it is one function of the weights."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from optstudy.curvature.additivity import settled
from optstudy.curvature.losses import Denominator, Loss, cast, defined, denominator_of
from optstudy.curvature.objective import (
    NO_DATA,
    Data,
    Draw,
    Objective,
    check_precision,
    chosen,
    generator_state,
    generators_of,
    is_batch,
)


def objective(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    denominator: Denominator | None = None,
) -> Objective:
    """Describe the loss of a model on data, after checking that it is one function of the weights.

    Args:
        model: Any module, in the mode that is meant; it is left exactly as found.
        loss: Maps outputs and targets to one number, the mean (or sum) over the batch.
        data: One batch ``(inputs, targets)``, or anything that gives batches each time it is iterated: a list,
            a DataLoader.
        parameters: Which count, by name; patterns such as ``"layer3.*"``. All that require a gradient by default.
        dtype: Precision of all computations; the parameters' own by default, at least float32.
        denominator: From the targets of a batch, what its mean loss was divided by. torch's own losses are
            known. For others it is the number of examples, or nothing where the loss of a batch is the sum of those of
            its halves, which is found out over several batches.

    Raises:
        ValueError: If no parameter matches, the data is empty or can be read only once, the device lacks the
            precision, or the model does not give one loss for one set of weights (dropout in train mode, batch norm
            in train mode over several batches, a loss of several batches that is neither mean nor sum).
    """
    if isinstance(data, Iterator):
        raise ValueError(  # noqa: TRY004  # as for every other mistake in the data
            "data can be iterated only once; give a list of batches, or a DataLoader itself"
        )
    made = _build(model, loss, data, parameters, dtype, denominator)
    _check_modes(model, several=not made.one_batch)
    _check_repeats(made)
    return _settled(made, denominator)


def unchecked(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | Sequence[str] | None,
    dtype: torch.dtype | None,
) -> Objective:
    """Describe an objective like one that was checked before."""
    return _settled(_build(model, loss, data, parameters, dtype, None), None)


def _settled(made: Objective, given: Denominator | None) -> Objective:
    """Find out what a loss of the user's own divides by, where that matters and was not said."""
    return made if made.one_batch or given is not None or defined(made.loss) else settled(made)


def _build(
    model: nn.Module,
    loss: Loss,
    data: Data,
    parameters: str | Sequence[str] | None,
    dtype: torch.dtype | None,
    denominator: Denominator | None,
) -> Objective:
    if torch.is_inference_mode_enabled():
        raise ValueError("inference mode is on, where torch keeps no gradients; leave it for curvature")
    _check_data(data)
    names = chosen(model, parameters)
    device = model.get_parameter(names[0]).device
    dtypes = (model.get_parameter(name).dtype for name in names)
    dtype = dtype or functools.reduce(torch.promote_types, dtypes, torch.float32)
    check_precision(device, dtype)
    every = dict(model.named_parameters()) | dict(model.named_buffers())
    tensors = {name: cast(tensor.detach(), dtype).clone() for name, tensor in every.items()}
    divided = denominator or denominator_of(loss)
    single = is_batch(data) or (isinstance(data, Sequence) and len(data) == 1)
    modes = tuple(module.training for module in model.modules())
    draws = tuple(Draw(generator, generator.get_state()) for generator in generators_of(data))
    return Objective(model, loss, data, names, tensors, dtype, device, divided, single, modes, draws)


def _check_data(data: Data) -> None:
    """Refuse what is neither a batch nor batches, where it would be taken for the other."""
    pair = 2
    if isinstance(data, Tensor | dict):
        raise ValueError(  # noqa: TRY004  # as for every other mistake in the data
            f"data is one {type(data).__name__}; give a batch (inputs, targets), or batches"
        )
    batch = isinstance(data, tuple) and len(data) == pair and not isinstance(data[0], tuple | list)
    if batch and not isinstance(data[1], Tensor):  # type: ignore[index]  # it is a tuple
        raise ValueError(f"the targets are a {type(data[1]).__name__}; give one tensor")  # type: ignore[index]


def _check_modes(model: nn.Module, *, several: bool) -> None:
    for name, module in model.named_modules():
        dropout = isinstance(module, nn.modules.dropout._DropoutNd)  # noqa: SLF001  # their one base class
        if dropout and module.training and module.p > 0:
            raise ValueError(
                f"{name} is dropout in train mode: the loss is another one at each call; call model.eval()"
            )
        if several and mixes_examples(module):
            raise ValueError(
                f"{name} is batch norm that takes its statistics from the batch: over several the loss is no mean over"
                " examples; call model.eval(), or give one batch"
            )


def mixes_examples(module: nn.Module) -> bool:
    """Whether a module's output for an example depends on the others of the batch: batch norm in train mode."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  # their one base class
        return False
    return module.training or module.running_mean is None


def _check_repeats(objective: Objective) -> None:
    """Refuse a model that draws random numbers, or whose loss is not one number or hides what it depends on."""
    every = dataclasses.replace(objective, names=chosen(objective.model, None))
    for inputs, targets, weight in objective.batches():
        if not weight:
            continue
        before = generator_state(objective.device)
        with torch.enable_grad():
            value = every.value(every.leaves(), inputs, targets)
        if not torch.equal(before, generator_state(objective.device)):
            raise ValueError(
                "the model or the loss draws random numbers: it is another function at each call"
            )
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss is {shape}; it must be one number, the mean over the batch")
        if not value.requires_grad:
            raise ValueError(
                "the loss depends on no parameter, as far as torch sees: detach() or no_grad() hides what it depends on"
            )
        _check_apart(objective.model, value)
        return
    raise ValueError(NO_DATA)


def _check_apart(model: nn.Module, value: Tensor) -> None:
    """Refuse a loss that reads the model's parameters itself, since it would be computed with others in their place."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    slopes = torch.autograd.grad(value, [p for _, p in named], allow_unused=True)
    for (name, _), slope in zip(named, slopes, strict=True):
        if slope is not None:
            raise ValueError(
                f"the loss reads the model's {name} itself, where it counts as a constant; add a penalty inside of the"
                " model's forward, or that of weight decay by weight_decay="
            )
