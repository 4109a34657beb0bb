"""The mean loss of a model over some data, as a function of its parameters as one vector."""

import contextlib
import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from optstudy.curvature.arguments import (
    check_match,
    check_patterns,
    check_tensor,
    explain_inputs,
    explain_loss,
)
from optstudy.curvature.batches import Batch, Data, call_arguments, is_batch, read_batch
from optstudy.curvature.containers import cast, converted
from optstudy.curvature.generators import DataGenerators
from optstudy.curvature.ieee import ieee_float32
from optstudy.curvature.losses import Denominator, Loss, batch_weight, cast_loss
from optstudy.curvature.reprs import short_repr
from optstudy.curvature.twice import lend, restored_attributes, twice_differentiable

T = TypeVar("T")

NO_DATA = "data has no batch (inputs, targets) with a target that is not ignored; give at least one"


@dataclass(frozen=True)
class FirstPass:
    """What the first pass over the data gave, to compare with later ones."""

    digests: Sequence[tuple[bytes, bytes]]  # of the inputs and of the targets of each batch
    loss: Tensor  # of the first batch with a target that is not ignored


@dataclass(frozen=True)
class Objective:
    r"""A model's loss on data at fixed weights.

    Over batches :math:`c` whose losses :math:`L_c` are means with denominators :math:`d_c`, the loss is
    :math:`L = \sum_c d_c L_c / \sum_c d_c`, as if all the data were one batch. If the losses are sums, they are added.

    The weights and modes are those at the call of `objective`; later training does not affect them. Of a model in eval
    mode, parameters that require no gradient are not copied; if one is changed in place, the objective is refused. Each
    pass over the data starts from the same state of the global generators of torch, Python and NumPy, and of a
    DataLoader's own, so that it yields the same batches.
    """

    model: nn.Module
    loss: Loss
    data: Data
    names: tuple[str, ...]  # the selected parameters, in the model's order
    tensors: Mapping[
        str, Tensor
    ]  # all parameters and buffers, detached in `dtype`, and copies but for `shared`
    dtype: torch.dtype
    device: torch.device
    denominator: Denominator | None  # None if the losses are sums over the batch
    one_batch: bool
    modes: tuple[bool, ...]  # whether each module of the model is in train mode, in order
    generators: DataGenerators  # states at which each pass over the data starts
    isolated: bool = True  # whether tensors that a forward pass keeps in attributes are taken away after it
    first_pass: FirstPass | None = None  # of checks at its construction
    # The model's own tensors among `tensors`, with the counts of their changes in place, at which they still hold.
    shared: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return short_repr(self, "dim", "dtype", "device", "one_batch")

    @cached_property
    def shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the selected parameters."""
        return tuple(self.tensors[name].shape for name in self.names)

    @cached_property
    def sizes(self) -> list[int]:
        """Number of elements of each selected parameter."""
        return [shape.numel() for shape in self.shapes]

    @property
    def dim(self) -> int:
        """Total number of elements of the selected parameters."""
        return sum(self.sizes)

    @property
    def weights(self) -> Tensor:
        """The selected parameters as one vector, ``(n,)``."""
        return torch.cat([self.tensors[name].flatten() for name in self.names])

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Split a vector ``(n,)`` into tensors of the parameters' shapes."""
        parts = vector.split_with_sizes(self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def leaves(self) -> list[Tensor]:
        """Return the selected parameters as new leaves of a graph."""
        return [
            (
                self.tensors[name].detach() if name in self.shared else self.tensors[name].clone()
            ).requires_grad_()
            for name in self.names
        ]

    def batches(self) -> Iterator[tuple[Any, Any, float]]:
        """Yield inputs, targets and weight of each batch; the state of all generators is restored afterwards."""
        batches: Iterable[Batch] = [self.data] if is_batch(self.data) else self.data  # type: ignore[list-item]
        with self.generators.at(self.data, self.device):
            for position, batch in enumerate(batches):
                inputs, targets = read_batch(batch, self.model, position)
                check_tensor(self.loss, targets, "the targets are")
                weight = batch_weight(self.denominator, targets)
                yield (
                    converted(inputs, self.device, self.dtype),
                    converted(targets, self.device, self.dtype),
                    weight,
                )

    def outputs(self, parameters: Sequence[Tensor], inputs: Any) -> Any:
        """Call the model with these parameters; its own parameters and buffers do not change."""
        arguments, keywords = call_arguments(self.model, inputs)
        return self.holding(parameters, lambda: self.model(*arguments, **keywords))

    def holding(self, parameters: Sequence[Tensor], function: Callable[[], T]) -> T:
        """Call a function while the model holds these parameters, and the modes of this objective.

        Not only the forward pass needs them: activation checkpointing repeats it within each backward pass.
        """
        self._check_shared()
        # A forward pass may write to buffers, so it gets copies.
        buffers = {name: self.tensors[name].clone() for name, _ in self.model.named_buffers()}
        tensors = {**self.tensors, **buffers, **dict(zip(self.names, parameters, strict=True))}
        restored = restored_attributes(self.model) if self.isolated else contextlib.nullcontext()
        with self.computing(self.model), _restored_modes(self.model), restored:
            for module, training in zip(self.model.modules(), self.modes, strict=True):
                module.training = training
            return lend(self.model, tensors, function)

    def _check_shared(self) -> None:
        for name, version in self.shared.items():
            if self.tensors[name]._version != version:  # noqa: SLF001  # the only count of changes in place
                raise ValueError(
                    f"{name} has changed since curvature was asked for, and was not copied, since it requires no"
                    " gradient; ask again"
                )

    @contextlib.contextmanager
    def computing(self, function: Any) -> Iterator[None]:
        """Choose how a model or a loss is computed: with second derivatives, and in IEEE float32."""
        with ieee_float32(self.device), twice_differentiable(function):
            yield

    def value(self, parameters: Sequence[Tensor], inputs: Any, targets: Any) -> Tensor:
        """Return the loss of one batch; raises as `outputs_and_value` does."""
        return self.outputs_and_value(parameters, inputs, targets)[1]

    def outputs_and_value(
        self, parameters: Sequence[Tensor], inputs: Any, targets: Any
    ) -> tuple[Any, Tensor]:
        """Return the model's outputs for one batch, and the loss.

        Raises:
            TypeError: If the model or the loss contains tensors that cannot be converted to `dtype`.
        """
        try:
            outputs = self.outputs(parameters, inputs)
            return outputs, self.output_loss(outputs, targets)
        except RuntimeError as error:
            if "dtype" not in str(error) and "scalar type" not in str(error):
                raise
            explain_inputs(error, inputs, targets)
            raise TypeError(
                f"the model or the loss cannot be computed in {self.dtype} ({str(error).splitlines()[0]}); register"
                " constant tensors as buffers, or create them in the dtype of the input: residuals need float64"
            ) from error

    def output_loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of a batch from the model's outputs."""
        check_match(self.loss, outputs, targets)
        try:
            with self.computing(self.loss):
                return cast_loss(self.loss, self.dtype)(outputs, targets)
        except (IndexError, RuntimeError) as error:
            explain_loss(error, outputs, targets)
            raise

    def in_dtype(self, dtype: torch.dtype) -> "Objective":
        """Return the same objective at another precision."""
        self._check_shared()
        tensors = {name: cast(tensor, dtype) for name, tensor in self.tensors.items()}
        shared = {name: count for name, count in self.shared.items() if tensors[name] is self.tensors[name]}
        first_pass = None if dtype != self.dtype else self.first_pass  # its bits are of the other precision
        return dataclasses.replace(self, tensors=tensors, dtype=dtype, first_pass=first_pass, shared=shared)

    def mean(self, function: Callable[[Any, Any], Tensor]) -> Tensor:
        """Average a function of batches, weighted by their denominators."""
        total, weights = None, 0.0
        for inputs, targets, weight in self.batches():
            if not weight:  # all targets are ignored, and the mean over an empty set is nan
                continue
            part = function(inputs, targets) * weight
            total = part if total is None else total.add_(part)
            weights += weight
        if total is None:
            raise ValueError(NO_DATA)
        return total if self.denominator is None else total.div_(weights)


def select_parameters(model: nn.Module, patterns: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the parameters that match; see `objective`."""
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    if patterns is None:
        if not trainable:
            raise ValueError("the model has no parameter that requires a gradient")
        return tuple(trainable)
    check_patterns(patterns, model)
    selected = [patterns] if isinstance(patterns, str) else list(patterns)
    if not selected:
        raise ValueError(
            "parameters is empty; give names or patterns, or None for all that require a gradient"
        )
    for pattern in selected:
        if not fnmatch.filter(trainable, pattern):
            raise ValueError(
                f"no parameter that requires a gradient matches {pattern!r}; the parameters are {', '.join(trainable)}"
            )
    return tuple(name for name in trainable if any(fnmatch.fnmatchcase(name, p) for p in selected))


def check_precision(device: torch.device, dtype: torch.dtype) -> None:
    """Raise ValueError unless ``dtype`` is float32 or float64 and the device supports it."""
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is {dtype}; curvature requires float32 or float64")
    if not supports(device, dtype):
        raise ValueError(f"device {device} has no {dtype}; move the model to the CPU, or use float32")


def supports(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device computes with ``dtype``."""
    return dtype != torch.float64 or device.type != "mps"


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set a model to eval mode, and restore the mode of each module afterwards."""
    with _restored_modes(model):
        model.eval()
        yield


@contextlib.contextmanager
def _restored_modes(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
