"""What lets a model be differentiated twice, and leaves it as it was."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from optstudy.curvature.containers import tensors_in

T = TypeVar("T")

OF_EVERY_MODULE = frozenset(vars(nn.Module()))  # its dicts of parameters, buffers, modules and hooks


@contextlib.contextmanager
def twice_differentiable(function: Any = None) -> Iterator[None]:
    """Choose implementations that have second derivatives, in forward and backward passes.

    Attention is computed by its plain kernel, compiled code runs as written, and recurrent layers of ``function``
    run without cuDNN if it is a module: a model or a loss.
    """
    recurrent = isinstance(function, nn.Module) and any(
        isinstance(module, nn.RNNBase) for module in function.modules()
    )
    compiled = (
        "torch._dynamo" in sys.modules
    )  # otherwise nothing can have been compiled, and importing it is slow
    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext(),
        _without_cudnn() if recurrent else contextlib.nullcontext(),
    ):
        yield


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module that a compiled model, `DataParallel` or `DistributedDataParallel` wraps."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)  # of torch.compile, whose module takes long to import
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def lend(model: nn.Module, tensors: Mapping[str, Tensor], function: Callable[[], T]) -> T:
    """Call a function while a model holds other parameters and buffers, given by name."""
    held = {f"model.{place}": tensors[name] for place, name in _places(model) if name in tensors}
    result: T = torch.func.functional_call(_Borrower(model), held, (function,), tie_weights=False)
    return result


class _Borrower(nn.Module):
    """Calls a function of a model, so that `torch.func.functional_call` lends the model parameters meanwhile."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], T]) -> T:
        return function()


def _places(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield where each module holds parameters and buffers, and their names, which tied ones share.

    `torch.func.functional_call` finds ties itself, but does not give a module back what it held if the module is
    registered twice.
    """
    names: dict[int, str] = {}
    for prefix, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):  # noqa: SLF001  # thrice as fast
            if tensor is not None:
                place = f"{prefix}.{name}" if prefix else name
                yield (
                    place,
                    names.setdefault(id(tensor), place),
                )  # of ties, the first gives its name, as torch does


def dense(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return gradients as dense tensors; those of sparse embeddings are sparse."""
    return [tensor.to_dense() if tensor.is_sparse else tensor for tensor in tensors]


REENTRANT = (
    "the model calls torch.utils.checkpoint with use_reentrant=True, which has no second derivative; use"
    " use_reentrant=False"
)


@contextlib.contextmanager
def explained_checkpoint() -> Iterator[None]:
    """Explain the error of a derivative that reentrant activation checkpointing does not have.

    Raises:
        ValueError: In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        raise ValueError(REENTRANT) from error


@contextlib.contextmanager
def explained_derivative(find_module: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Explain the error of an operation that has no second derivative in torch, such as `nn.EmbeddingBag`.

    Args:
        find_module: Describes the module that calls it; None if that is not known.

    Raises:
        ValueError: In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one
        reason = str(error).partition("\n")[0].rstrip(".")
        if not ("derivative for" in reason and "is not implemented" in reason):
            raise
        bag = "embedding_bag" in reason
        advice = "use nn.Embedding and the sum or mean of its outputs" if bag else "compute it by others"
        raise ValueError(
            f"{find_module() or 'an operation'} has no second derivative in torch ({reason}); {advice}"
        ) from error


@contextlib.contextmanager
def refused_constants() -> Iterator[None]:
    """Refuse reentrant activation checkpointing of inputs without a gradient, whose outputs torch takes for constants.

    Raises:
        ValueError: In place of torch's warning.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "None of the inputs have requires_grad", UserWarning)
        try:
            yield
        except UserWarning as warning:
            if "None of the inputs have requires_grad" not in str(warning):
                raise  # of a user who has made errors of warnings
            raise ValueError(REENTRANT) from warning


@contextlib.contextmanager
def restored_attributes(model: nn.Module) -> Iterator[None]:
    """Restore the attributes in which a forward pass keeps tensors, as the hooks of `torch.nn.utils.spectral_norm` do.

    They would be computed from other weights than the model's, or belong to a graph, so that no copy could be made.
    """
    before = [
        (module, {name: (value, _contents(value)) for name, value in _own(module)})
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for module, kept in before:
            changed = _changed(module, kept)
            # All of them: recurrent layers keep weights, and apart from these of which parameters they are.
            if tensors_in([(vars(module).get(name), kept.get(name)) for name in changed]):
                for name in changed:
                    _restore(module, name, kept)


Kept = dict[
    str, tuple[Any, dict[Any, Any] | None]
]  # attributes by name, and what those that are containers hold


def _changed(module: nn.Module, kept: Kept) -> list[str]:
    """Return the names of attributes that are others than before, or hold others."""
    new = [name for name, _ in _own(module) if name not in kept]
    return new + [
        name
        for name, (value, contents) in kept.items()
        if vars(module).get(name) is not value or _ids(_contents(value)) != _ids(contents)
    ]


def _restore(module: nn.Module, name: str, kept: Kept) -> None:
    if name not in kept:
        del vars(module)[name]
        return
    value, contents = kept[name]
    vars(module)[name] = value
    if contents is not None:
        value.clear()
        value.update(contents) if isinstance(value, dict) else value.extend(contents.values())


def _own(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the attributes of a module but those that every module has."""
    return [(name, value) for name, value in vars(module).items() if name not in OF_EVERY_MODULE]


def _contents(value: Any) -> dict[Any, Any] | None:
    """Return what a dict or a list holds, by key or index."""
    if isinstance(value, list):
        return dict(enumerate(value))
    return dict(value) if isinstance(value, dict) else None


def _ids(contents: dict[Any, Any] | None) -> list[tuple[Any, int]]:
    return [(key, id(item)) for key, item in (contents or {}).items()]


@contextlib.contextmanager
def _without_cudnn() -> Iterator[None]:
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled
