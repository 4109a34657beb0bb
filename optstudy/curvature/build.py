"""Build an objective from a model, a loss and data, after checking that it is a function of the weights."""

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from optstudy.curvature.additivity import prove_denominator
from optstudy.curvature.arguments import check_model_and_loss
from optstudy.curvature.batches import Data, check_data, is_batch
from optstudy.curvature.containers import cast, describe
from optstudy.curvature.distributed import check_not_sharded
from optstudy.curvature.generators import DataGenerators
from optstudy.curvature.losses import (
    FUNCTION,
    Denominator,
    Loss,
    declared_denominator,
    example_count,
    is_torch_loss,
    loss_denominator,
)
from optstudy.curvature.objective import (
    NO_DATA,
    FirstPass,
    Objective,
    check_precision,
    select_parameters,
)
from optstudy.curvature.repeatability import check_first_calls, check_repeated, digest
from optstudy.curvature.twice import restored_attributes, unwrapped


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
            that require a gradient. Parameters that do not are not copied if the model is in eval mode.
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


def objective_of_shard(
    model: nn.Module,
    loss: Loss,
    data: Data,
    parameters: str | Sequence[str] | None,
    dtype: torch.dtype | None,
    denominator: Denominator | None,
) -> Objective:
    """Build the objective of the data of one of several processes, which are never compared with one another.

    Raises:
        ValueError: As `objective` does, or if it is not known what the loss is divided by.
    """
    known = denominator is not None or is_torch_loss(loss) or declared_denominator(loss) is not None
    if not known:
        raise ValueError(
            "over several processes, a loss of your own must say what its mean is divided by: give denominator=, or set"
            " loss.denominator = None for a sum"
        )
    function = checked_objective(model, loss, data, parameters, dtype, denominator, several=True)
    return _with_denominator(dataclasses.replace(function, one_batch=False), denominator)


def checked_objective(
    model: nn.Module,
    loss: Loss,
    data: Data,
    parameters: str | Sequence[str] | None,
    dtype: torch.dtype | None,
    denominator: Denominator | None,
    *,
    several: bool = False,
) -> Objective:
    """Build an objective after all checks but that of its denominator."""
    module = measured(model, loss)
    if isinstance(data, Iterator):
        raise ValueError(  # noqa: TRY004  # like all other errors in the data
            "data can be iterated only once; give a list of batches, or a DataLoader itself"
        )
    function = _build(module, loss, data, parameters, dtype, denominator)
    _check_modes(module, several=several or not function.one_batch)
    return dataclasses.replace(function, first_pass=_check_loss(function))


def measured(model: nn.Module, loss: Loss) -> nn.Module:
    """Return the module that is measured, with a warning if it is not the one given.

    Raises:
        TypeError: If the model is no module, or the loss cannot be called.
    """
    check_model_and_loss(model, loss)
    module = unwrapped(model)
    if module is not model:
        warnings.warn(
            f"{type(model).__name__} is measured as the {type(module).__name__} that it wraps, uncompiled and on one"
            " device",
            UserWarning,
            stacklevel=5,  # the caller of hessian
        )
    return module


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
    function = _build(unwrapped(model), loss, data, parameters, dtype, denominator)
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
    check_data(data)
    if denominator is not None and not callable(denominator):
        raise ValueError(f"denominator is {describe(denominator)}; {FUNCTION}")
    check_not_sharded(model)
    names = select_parameters(model, parameters)
    _check_tensors(model, names)
    device = model.get_parameter(names[0]).device
    dtypes = (model.get_parameter(name).dtype for name in names)
    dtype = dtype or functools.reduce(torch.promote_types, dtypes, torch.float32)
    check_precision(device, dtype)
    tensors, shared = _held(model, dtype)
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
        shared=shared,
    )


def _held(model: nn.Module, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return a model's parameters and buffers, and how often those that are no copies changed.

    The latter are frozen: there may be no room for more, and training leaves them alone. Fused optimizers change
    others without a count. A model in train mode may change even these, as teachers that follow a student.
    """
    shares = not any(module.training for module in model.modules())
    tensors, shared = {name: cast(b.detach(), dtype).clone() for name, b in model.named_buffers()}, {}
    for name, parameter in model.named_parameters():
        held = cast(parameter.detach(), dtype)
        own = held.dtype == parameter.dtype
        if own and shares and not parameter.requires_grad and not held.is_inference():
            shared[name] = held._version  # noqa: SLF001  # see `Objective.shared`
        tensors[name] = held.clone() if own and name not in shared else held
    return tensors, shared


def _check_tensors(model: nn.Module, names: Sequence[str]) -> None:
    """Raise ValueError for a model whose parameters cannot be replaced, or have no real vector of derivatives."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(  # noqa: TRY004  # it is a module
                f"{name or 'the model'} is compiled by torch.jit, which cannot compute with other parameters; give the"
                " module before torch.jit.script or torch.jit.trace"
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"{name} is not initialised; call the model once")
        if name in names and tensor.is_complex():
            raise ValueError(
                f"{name} is complex ({tensor.dtype}), and a Hessian is of real parameters; hold its real and imaginary"
                " parts (torch.view_as_real), or select others by parameters="
            )


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


def _check_loss(objective: Objective) -> FirstPass:
    """Raise ValueError for a loss that is not a differentiable scalar, or differs between calls or passes."""
    with restored_attributes(objective.model):
        # What a forward pass keeps must not change the next one.
        return _check_calls(dataclasses.replace(objective, isolated=False))


def _check_calls(objective: Objective) -> FirstPass:
    full = dataclasses.replace(objective, names=select_parameters(objective.model, None))
    digests: list[tuple[bytes, bytes]] = []
    loss = None
    for inputs, targets, weight in objective.batches():
        digests.append((digest(inputs), digest(targets)))
        if loss is not None or not weight:
            continue
        value, leaves = check_first_calls(full, inputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss is {shape}; it must be one number, the mean over the batch")
        if not value.requires_grad:
            raise ValueError(
                "the loss does not depend on any parameter in the autograd graph; check for detach() and no_grad()"
            )
        loss = value.detach().clone()
        own = [(name, p) for name, p in objective.model.named_parameters() if p.requires_grad]
        full.holding(leaves, functools.partial(_check_separate, own, value))
    if loss is None:
        raise ValueError(NO_DATA)
    check_repeated(objective, digests)
    return FirstPass(digests, loss)


def _check_separate(own: list[tuple[str, nn.Parameter]], value: Tensor) -> None:
    """Raise ValueError for a loss that uses the model's parameters directly, where they would count as constants."""
    gradients = torch.autograd.grad(value, [p for _, p in own], allow_unused=True)
    for (name, _), gradient in zip(own, gradients, strict=True):
        if gradient is not None:
            raise ValueError(
                f"the loss uses the model's {name} directly, where it counts as a constant; add a penalty in the"
                " model's forward, or use weight_decay= for weight decay"
            )
