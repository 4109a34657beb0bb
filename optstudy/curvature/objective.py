"""The mean loss of a model over some data, as a function of its parameters as one vector."""

import contextlib
import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

Loss = Callable[[Any, Tensor], Tensor]  # (outputs, targets) to one number
Batch = Sequence[
    Any
]  # (inputs, targets); inputs are a tensor, a tuple for model(*inputs), a dict for model(**inputs)
Data = Batch | Iterable[Batch]
Denominator = Callable[[Tensor], float]  # targets to what the loss of a batch was divided by


@dataclass(frozen=True)
class Objective:
    r"""A model's loss on data at fixed weights.

    Over batches :math:`c` whose losses :math:`L_c` are means with denominators :math:`d_c`, the loss is
    :math:`L = \sum_c d_c L_c / \sum_c d_c`: that of all the data in one batch. A loss that sums is summed.

    The weights are those at the time of `objective`; training the model later changes nothing here.
    """

    model: nn.Module
    loss: Loss
    data: Data
    names: tuple[str, ...]  # parameters that count, in the model's order
    tensors: Mapping[str, Tensor]  # all parameters and buffers, detached copies in `dtype`
    dtype: torch.dtype
    device: torch.device
    denominator: Denominator | None  # None where losses of batches add up
    one_batch: bool

    @property
    def dim(self) -> int:
        """Number of the parameters that count."""
        return sum(self.tensors[name].numel() for name in self.names)

    @property
    def weights(self) -> Tensor:
        """The parameters that count as one vector, ``(n,)``."""
        return torch.cat([self.tensors[name].flatten() for name in self.names])

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Cut a vector ``(n,)`` into the shapes of the parameters."""
        shapes = [self.tensors[name].shape for name in self.names]
        parts = torch.split(vector, [shape.numel() for shape in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def leaves(self) -> list[Tensor]:
        """Return the parameters that count as new leaves of a graph."""
        return [self.tensors[name].clone().requires_grad_() for name in self.names]

    def batches(self) -> Iterator[tuple[Any, Tensor, float]]:
        """Yield inputs, targets and the weight of each batch; a DataLoader's draws are taken back."""
        found: Iterable[Batch] = [self.data] if _is_batch(self.data) else self.data  # type: ignore[list-item]
        with _generators_kept(self.device):
            for inputs, targets in found:
                weight = 1.0 if self.denominator is None else self.denominator(targets)
                yield self._moved(inputs), self._moved(targets), weight

    def outputs(self, parameters: Sequence[Tensor], inputs: Any) -> Any:
        """Call the model with these parameters; its own and its buffers stay as they are."""
        # A forward pass may write to buffers, so it gets copies.
        buffers = {name: self.tensors[name].clone() for name, _ in self.model.named_buffers()}
        given = {**self.tensors, **buffers, **dict(zip(self.names, parameters, strict=True))}
        arguments, keywords = ((), inputs) if isinstance(inputs, dict) else (_as_tuple(inputs), {})
        # Only the plain kernel of attention can be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH):
            return torch.func.functional_call(self.model, given, arguments, keywords)

    def value(self, parameters: Sequence[Tensor], inputs: Any, targets: Tensor) -> Tensor:
        """Return the loss of one batch."""
        return self.loss(self.outputs(parameters, inputs), targets)

    def in_dtype(self, dtype: torch.dtype) -> "Objective":
        """Return the same at another precision."""
        tensors = {name: _cast(tensor, dtype) for name, tensor in self.tensors.items()}
        return dataclasses.replace(self, tensors=tensors, dtype=dtype)

    def mean(self, of_batch: Callable[[Any, Tensor], Tensor]) -> Tensor:
        """Average what each batch gives, each by its weight."""
        total, weights = None, 0.0
        for inputs, targets, weight in self.batches():
            part = of_batch(inputs, targets) * weight
            total = part if total is None else total.add_(part)
            weights += weight
        if total is None:
            raise ValueError("data has no batch; give at least one (inputs, targets)")
        if self.denominator is None:
            return total
        if not weights > 0:
            raise ValueError("the loss averages over no target at all; every one is ignored")
        return total.div_(weights)

    def _moved(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return _cast(value.to(self.device), self.dtype)
        if isinstance(value, dict):
            return {name: self._moved(item) for name, item in value.items()}
        if isinstance(value, tuple | list):
            return tuple(self._moved(item) for item in value)
        return value


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
            known; for others it is the number of targets in the batch.

    Raises:
        ValueError: If no parameter matches, the data can be read only once, the device lacks the precision, or
            the model does not give one loss for one set of weights (dropout in train mode, batch norm in train
            mode over several batches).
    """
    if not _is_batch(data) and iter(data) is data:
        raise ValueError("data can be iterated only once; give a list of batches, or a DataLoader itself")
    made = unchecked(model, loss, data, parameters=parameters, dtype=dtype, denominator=denominator)
    _check_modes(model, several=not made.one_batch)
    _check_repeats(made)
    return made


def unchecked(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    denominator: Denominator | None = None,
) -> Objective:
    """Describe an objective like one that was checked before."""
    names = chosen(model, parameters)
    first = model.get_parameter(names[0])
    dtype = dtype or torch.promote_types(first.dtype, torch.float32)
    _check_precision(first.device, dtype)
    every = dict(model.named_parameters()) | dict(model.named_buffers())
    tensors = {name: _cast(tensor.detach(), dtype).clone() for name, tensor in every.items()}
    divided = denominator or _denominator(loss)
    single = _is_batch(data) or (isinstance(data, Sequence) and len(data) == 1)
    return Objective(model, loss, data, names, tensors, dtype, first.device, divided, single)


def chosen(model: nn.Module, patterns: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the parameters that are meant; see `objective`."""
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    if patterns is None:
        if not trained:
            raise ValueError("the model has no parameter that requires a gradient")
        return tuple(trained)
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not fnmatch.filter(trained, pattern):
            raise ValueError(
                f"no parameter that requires a gradient matches {pattern!r}; there are {', '.join(trained)}"
            )
    return tuple(name for name in trained if any(fnmatch.fnmatchcase(name, p) for p in wanted))


def _check_precision(device: torch.device, dtype: torch.dtype) -> None:
    if not has(device, dtype):
        raise ValueError(f"device {device} has no {dtype}; move the model to the CPU, or use float32")


def has(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device computes with ``dtype``."""
    return dtype != torch.float64 or device.type != "mps"


def _check_modes(model: nn.Module, *, several: bool) -> None:
    for name, module in model.named_modules():
        if not module.training:
            continue
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:  # noqa: SLF001  # their one base class
            raise ValueError(
                f"{name} is dropout in train mode: the loss is another one at each call; call model.eval()"
            )
        if several and isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  # their one base class
            raise ValueError(
                f"{name} is batch norm in train mode: over several batches the loss is no mean over examples;"
                " call model.eval(), or give one batch"
            )


def _check_repeats(objective: Objective) -> None:
    """Refuse a model that draws random numbers, or whose loss is not one number."""
    parameters = [objective.tensors[name] for name in objective.names]
    for inputs, targets, _ in objective.batches():
        before = _generator_state(objective.device)
        with torch.no_grad():
            value = objective.value(parameters, inputs, targets)
        if not torch.equal(before, _generator_state(objective.device)):
            raise ValueError(
                "the model or the loss draws random numbers: it is another function at each call"
            )
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss is {shape}; it must be one number, the mean over the batch")
        return


def _generator_state(device: torch.device) -> Tensor:
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device))
    return torch.cat(states)


def _generators_kept(device: torch.device) -> contextlib.AbstractContextManager[None]:
    devices = [] if device.type == "cpu" else [device]
    return torch.random.fork_rng(devices, device_type=device.type if devices else "cuda")


def _denominator(loss: Loss) -> Denominator | None:
    """What a loss divides by; None where it does not."""
    options = _options(loss)
    if options.get("reduction", "mean") == "none":
        raise ValueError("the loss has reduction='none'; it must return one number, so take 'mean' or 'sum'")
    if options.get("reduction", "mean") == "sum":
        return None
    if options.get("classes"):
        return functools.partial(
            _class_weight, weight=options.get("weight"), ignored=options.get("ignore_index", -100)
        )
    return lambda targets: float(targets.shape[0])


def _options(loss: Loss) -> dict[str, Any]:
    if isinstance(loss, functools.partial):
        return _options(loss.func) | loss.keywords
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return {
            "classes": True,
            "weight": loss.weight,
            "ignore_index": loss.ignore_index,
            "reduction": loss.reduction,
        }
    if loss in (functional.cross_entropy, functional.nll_loss):
        return {"classes": True}
    return {"reduction": getattr(loss, "reduction", "mean")}


def _class_weight(targets: Tensor, weight: Tensor | None, ignored: int) -> float:
    if targets.is_floating_point():  # probabilities of classes: torch divides by the number of examples
        return float(targets.numel() / targets.shape[1])
    counted = targets[targets != ignored]
    return float(counted.numel() if weight is None else weight[counted.to(weight.device)].double().sum())


def _is_batch(data: Data) -> bool:
    pair = 2
    return isinstance(data, tuple | list) and len(data) == pair and isinstance(data[1], Tensor)


def _as_tuple(inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
