"""Build an objective from a model, a loss and data, after checking that it is a function of the weights."""

import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from optstudy.curvature.additivity import prove_denominator
from optstudy.curvature.generators import DataGenerators
from optstudy.curvature.losses import (
    Denominator,
    Loss,
    cast,
    declared_denominator,
    example_count,
    is_torch_loss,
    loss_denominator,
)
from optstudy.curvature.objective import (
    NO_DATA,
    Data,
    Objective,
    check_precision,
    is_batch,
    select_parameters,
)
from optstudy.curvature.repeatability import check_first_calls, check_repeated, digest


def objective(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    denominator: Denominator | None = None,
) -> Objective:
    """Return the loss of a model on data, after checking that it is a function of the weights alone.

    Args:
        model: Any module, already in train or eval mode as desired; it is not modified.
        loss: Maps outputs and targets to one number, the mean (or sum) over the batch.
        data: One batch ``(inputs, targets)``, or a re-iterable collection of batches, such as a list or a DataLoader.
        parameters: Names or patterns such as ``"layer3.*"`` of the parameters to differentiate; by default all
            that require a gradient.
        dtype: Precision of all computations; by default that of the parameters, at least float32.
        denominator: Maps the targets of a batch to the divisor of its mean loss, and adds up over examples. By default
            the attribute ``denominator`` of the loss (None if the loss is a sum). Known for torch's own losses. Any
            other loss of several batches must be the mean or the sum over examples. This, or the denominator given, is
            checked on parts of all batches, at about the cost of a product with the Hessian; see `prove_denominator`.

    Raises:
        ValueError: If no parameter matches, the data is empty or can be read only once, the device does not support
            the precision, or the loss is not a function of the weights (dropout in train mode, batch norm in train
            mode over several batches, a loss of several batches whose denominator is not known, or not the one given).
    """
    function = checked_objective(model, loss, data, parameters, dtype, denominator)
    return _with_denominator(function, denominator)


def checked_objective(
    model: nn.Module,
    loss: Loss,
    data: Data,
    parameters: str | Sequence[str] | None,
    dtype: torch.dtype | None,
    denominator: Denominator | None,
) -> Objective:
    """Build an objective after all checks but that of its denominator."""
    if isinstance(data, Iterator):
        raise ValueError(  # noqa: TRY004  # like all other errors in the data
            "data can be iterated only once; give a list of batches, or a DataLoader itself"
        )
    function = _build(model, loss, data, parameters, dtype, denominator)
    _check_modes(model, several=not function.one_batch)
    _check_loss(function)
    return function


def unchecked_objective(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | Sequence[str] | None,
    dtype: torch.dtype | None,
    denominator: Denominator | None = None,
) -> Objective:
    """Build an objective without the checks, for a model, loss and data that have passed them."""
    function = _build(model, loss, data, parameters, dtype, denominator)
    known = denominator is not None or declared_denominator(loss) is not None
    return function if known else _with_denominator(function, None, every=False)


def _with_denominator(objective: Objective, given: Denominator | None, *, every: bool = True) -> Objective:
    """Check the denominator that was given or declared over several batches, or find that of a custom loss."""
    if objective.one_batch:
        return objective
    if given is not None or declared_denominator(objective.loss) is not None:
        return prove_denominator(objective, [objective.denominator], every=every)
    if is_torch_loss(objective.loss):
        return objective
    return prove_denominator(objective, [example_count, None], every=every)


def _build(
    model: nn.Module,
    loss: Loss,
    data: Data,
    parameters: str | Sequence[str] | None,
    dtype: torch.dtype | None,
    denominator: Denominator | None,
) -> Objective:
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "inference mode is on, in which torch records no gradients; compute curvature outside of it"
        )
    _check_data(data)
    names = select_parameters(model, parameters)
    device = model.get_parameter(names[0]).device
    dtypes = (model.get_parameter(name).dtype for name in names)
    dtype = dtype or functools.reduce(torch.promote_types, dtypes, torch.float32)
    check_precision(device, dtype)
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    tensors = {name: cast(tensor.detach(), dtype).clone() for name, tensor in state.items()}
    return Objective(
        model=model,
        loss=loss,
        data=data,
        names=names,
        tensors=tensors,
        dtype=dtype,
        device=device,
        denominator=denominator or loss_denominator(loss),
        one_batch=is_batch(data) or (isinstance(data, Sequence) and len(data) == 1),
        modes=tuple(module.training for module in model.modules()),
        generators=DataGenerators.now(data),
    )


def _check_data(data: Data) -> None:
    """Raise ValueError for data that is neither a batch nor batches but could be mistaken for them."""
    pair = 2
    if isinstance(data, Tensor | dict):
        raise ValueError(  # noqa: TRY004  # like all other errors in the data
            f"data is a single {type(data).__name__}; give a batch (inputs, targets), or batches"
        )
    batch = isinstance(data, tuple) and len(data) == pair and not isinstance(data[0], tuple | list)
    if batch and not isinstance(data[1], Tensor):  # type: ignore[index]  # it is a tuple
        raise ValueError(f"the targets are a {type(data[1]).__name__}; give one tensor")  # type: ignore[index]


def _check_modes(model: nn.Module, *, several: bool) -> None:
    for name, module in model.named_modules():
        dropout = isinstance(module, nn.modules.dropout._DropoutNd)  # noqa: SLF001  # their common base class
        if dropout and module.training and module.p > 0:
            raise ValueError(
                f"{name} is dropout in train mode, so the loss changes between calls; call model.eval()"
            )
        if several and mixes_examples(module):
            raise ValueError(
                f"{name} is batch norm that uses batch statistics, so over several batches the loss is not a mean over"
                " examples; call model.eval(), or give one batch"
            )


def mixes_examples(module: nn.Module) -> bool:
    """Whether a module's output for an example depends on the other examples: batch norm in train mode."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  # their common base class
        return False
    return module.training or module.running_mean is None


def _check_loss(objective: Objective) -> None:
    """Raise ValueError for a loss that is not a differentiable scalar, or differs between calls or passes."""
    first_pass, checked = [], False
    for inputs, targets, weight in objective.batches():
        first_pass.append((digest(inputs), digest(targets)))
        if checked or not weight:
            continue
        checked = True
        value = check_first_calls(objective, inputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss is {shape}; it must be one number, the mean over the batch")
        if not value.requires_grad:
            raise ValueError(
                "the loss does not depend on any parameter in the autograd graph; check for detach() and no_grad()"
            )
        _check_separate(objective.model, value)
    if not checked:
        raise ValueError(NO_DATA)
    check_repeated(objective, first_pass)


def _check_separate(model: nn.Module, value: Tensor) -> None:
    """Raise ValueError for a loss that uses the model's parameters directly, where they would count as constants."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(value, [p for _, p in named], allow_unused=True)
    for (name, _), gradient in zip(named, gradients, strict=True):
        if gradient is not None:
            raise ValueError(
                f"the loss uses the model's {name} directly, where it counts as a constant; add a penalty in the"
                " model's forward, or use weight_decay= for weight decay"
            )
