"""Find the module whose second derivative is wrong in torch."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm

from optstudy.curvature.containers import cast, map_tensors, tensors_in
from optstudy.curvature.losses import cast_loss
from optstudy.curvature.objective import Objective, eval_mode
from optstudy.curvature.repeatability import describe
from optstudy.curvature.twice import lend, twice_differentiable

STEP = 1e-8  # of finite differences, for entries of order 1; so small that few kinks are crossed
NOISE = 1e-3  # added to the tensors, since many values lie at kinks, such as zeros of a rectifier in a pooling layer
TOLERANCE = 1e-3  # largest relative error of an entry
ROUNDING = 1e-5  # error of the differences, relative to the gradient
MOST_KINKS = 0.05  # share of entries that may differ, as differences across a kink do

_NUMBERS = "{} cannot be differentiated twice, though torch returns numbers for it; {}"

Function = Callable[[list[Tensor]], Any]  # tensors to outputs


def check_custom_functions(objective: Objective) -> None:
    """Check the second derivatives of the user's own `torch.autograd.Function` on the first batch.

    Their backward passes may hide from torch what they depend on, and the Hessian may be symmetric all the same. This
    costs a forward pass, and a few of each module that calls such a function. Functions whose backward pass is not the
    derivative either (straight-through estimators), or that compute in float32 inside, cannot be judged by differences.

    Raises:
        ValueError: If a second derivative is wrong, naming the module.
    """
    inputs, targets, _ = next(objective.batches())
    with torch.enable_grad():
        value = objective.value(objective.leaves(), inputs, targets)
    if _calls_custom_function(value) and (found := _first(objective, _is_wrong_custom)):
        raise ValueError(f"the Hessian is wrong: {_NUMBERS.format(*found)}")


def blame_second_derivative(objective: Objective) -> str | None:
    """Describe the first module whose second derivative is wrong, in the order of execution, or the loss.

    Each module is called alone, with the inputs that it has on the first batch. The derivative of the gradient of a
    function of its outputs is compared with finite differences of that gradient, in float64 and eval mode.

    Returns:
        A sentence for a message; None if no module is wrong by itself, or if that cannot be tried.
    """
    found = _first(objective, _is_wrong)
    return _NUMBERS.format(*found) if found else None


def module_without_second_derivative(objective: Objective) -> str | None:
    """Describe the first module with an operation whose second derivative raises an error, if there is one."""
    found = _first(objective, _raises)
    return found[0] if found else None


def _first(objective: Objective, is_so: Callable[[Function, list[Tensor]], bool]) -> tuple[str, str] | None:
    """Return the first module, or the loss, whose function is so, and what would be right in its place."""
    try:
        with (
            eval_mode(objective.model),
            objective.generators.at(objective.data, objective.device),
            twice_differentiable(objective.model),
            torch.enable_grad(),
        ):
            for where, function, tensors, advice in _functions(objective.in_dtype(torch.float64)):
                if is_so(function, tensors):
                    return where, advice
    except Exception:  # noqa: BLE001  # modules are called in a way that they may not expect
        return None
    return None


def _functions(objective: Objective) -> Iterator[tuple[str, Function, list[Tensor], str]]:
    """Yield each module and the loss as a function of tensors, with its name and what would be right."""
    inputs, targets, _ = next(objective.batches())
    names = {module: name for name, module in objective.model.named_modules()}
    calls: list[tuple[nn.Module, Any]] = []

    def keep(module: nn.Module, arguments: Any, keywords: Any, _: Any) -> None:
        calls.append((module, map_tensors((arguments, keywords), lambda tensor: tensor.detach().clone())))

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in names]
    try:
        outputs = objective.outputs([objective.tensors[name] for name in objective.names], inputs)
    finally:
        for handle in handles:
            handle.remove()
    for module, given in calls:
        where, advice = _description(names[module], module)
        yield where, *_of_module(module, given), advice
    loss = cast_loss(objective.loss, torch.float64)
    yield (
        "the loss",
        *_of_value(outputs, lambda value: loss(value, targets)),
        _description("", nn.Identity())[1],
    )


def _description(name: str, module: nn.Module) -> tuple[str, str]:
    """Describe a module, and what would be right in its place."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm)]  # noqa: SLF001  # the only place where the deprecated weight_norm leaves a trace
    parametrized = re.fullmatch(r"(?:(.*)\.)?parametrizations\.(\w+)\.\d+", name)
    if parametrized is None and not hooks:
        return describe(name, module), "its backward pass must consist of differentiable operations"
    owner, parameter = parametrized.groups() if parametrized else (name, hooks[0].name)
    if hooks or isinstance(module, _WeightNorm):
        return f"module {owner or ''!r} (weight_norm of its {parameter})", (
            "register a parametrization of your own in its place that computes"
            " g * v / torch.linalg.vector_norm(v, dim, keepdim=True)"
        )
    where = f"module {owner or ''!r} (parametrization {type(module).__name__} of its {parameter})"
    return where, "its backward pass must consist of differentiable operations"


def _of_module(module: nn.Module, given: Any) -> tuple[Function, list[Tensor]]:
    state = {name: cast(tensor.detach(), torch.float64) for name, tensor in module.state_dict().items()}
    names = [name for name, _ in module.named_parameters()]

    def function(value: Any) -> Any:
        parameters, (arguments, keywords) = value
        return lend(module, {**state, **parameters}, lambda: module(*arguments, **keywords))

    return _of_value(({name: state[name] for name in names}, given), function)


def _of_value(value: Any, function: Callable[[Any], Any]) -> tuple[Function, list[Tensor]]:
    """Return a function of nested tensors as one of those in floating point, and these."""

    def of_tensors(moved: list[Tensor]) -> Any:
        remaining = iter(moved)
        # Copies, since a module may change its inputs in place.
        return function(
            map_tensors(value, lambda old: next(remaining).clone() if old.is_floating_point() else old)
        )

    return of_tensors, [tensor for tensor in tensors_in(value) if tensor.is_floating_point()]


def _calls_custom_function(value: Tensor) -> bool:
    """Whether the graph of a value has a node of a `torch.autograd.Function`."""
    seen, nodes = set(), [value.grad_fn]
    while nodes:
        node = nodes.pop()
        if isinstance(node, BackwardCFunction):
            return True
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
    return False


def _raises(function: Function, tensors: list[Tensor]) -> bool:
    try:
        _is_wrong(function, tensors)
    except RuntimeError:  # NotImplementedError is one
        return True
    return False


def _is_wrong_custom(function: Function, tensors: list[Tensor]) -> bool:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    value = _scalar(function(leaves))
    custom = value is not None and _calls_custom_function(value)
    return custom and _has_gradient(function, tensors) and _is_wrong(function, tensors)


def _has_gradient(function: Function, tensors: Sequence[Tensor]) -> bool:
    """Whether the gradient agrees with finite differences of the value."""
    generator = torch.Generator().manual_seed(0)
    tensors = [tensor.detach() + NOISE * _random(tensor, generator) for tensor in tensors]
    vectors = [_random(tensor, generator) for tensor in tensors]
    slopes = _gradient(function, tensors, vectors, 0.0)
    with torch.no_grad():
        ends = [
            _scalar(function([t + sign * STEP * v for t, v in zip(tensors, vectors, strict=True)]))
            for sign in (1, -1)
        ]
    assert ends[0] is not None
    assert ends[1] is not None
    difference = float(ends[0] - ends[1]) / (2 * STEP)
    terms = slopes * torch.cat([vector.flatten() for vector in vectors])
    return abs(float(terms.sum()) - difference) <= TOLERANCE * float(terms.norm())


def _is_wrong(function: Function, tensors: Sequence[Tensor]) -> bool:
    """Whether derivatives of the gradient differ from finite differences of it."""
    generator = torch.Generator().manual_seed(0)
    tensors = [tensor.detach() + NOISE * _random(tensor, generator) for tensor in tensors]
    vectors = [_random(tensor, generator) for tensor in tensors]
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = _scalar(function(leaves))
    if value is None or not value.requires_grad:
        return False
    slopes = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True, allow_unused=True)
    varying = [(slope, vector) for slope, vector in zip(slopes, vectors, strict=True) if slope.requires_grad]
    products: Sequence[Tensor] = [torch.zeros_like(leaf) for leaf in leaves]
    if varying:
        outputs, weights = zip(*varying, strict=True)
        products = torch.autograd.grad(outputs, leaves, weights, materialize_grads=True, allow_unused=True)
    ends = [_gradient(function, tensors, vectors, sign * STEP) for sign in (1, -1)]
    differences = (ends[0] - ends[1]) / (2 * STEP)
    product = torch.cat([part.flatten() for part in products])
    size = torch.maximum(product.abs(), differences.abs())
    rounding = ROUNDING * torch.cat([slope.detach().flatten() for slope in slopes]).abs().max()
    counted = size > rounding
    wrong = (product - differences).abs() > TOLERANCE * size + rounding
    return bool((wrong & counted).sum() > MOST_KINKS * counted.sum())


def _gradient(
    function: Function, tensors: Sequence[Tensor], vectors: Sequence[Tensor], step: float
) -> Tensor:
    leaves = [
        (tensor + step * vector).requires_grad_() for tensor, vector in zip(tensors, vectors, strict=True)
    ]
    value = _scalar(function(leaves))
    assert value is not None
    slopes = torch.autograd.grad(value, leaves, materialize_grads=True, allow_unused=True)
    return torch.cat([slope.flatten() for slope in slopes])


def _scalar(outputs: Any) -> Tensor | None:
    """Return a function of all outputs that is linear in none of them; None without outputs in floating point."""
    generator = torch.Generator().manual_seed(1)
    floating = [tensor for tensor in tensors_in(outputs) if tensor.is_floating_point()]
    terms = [(_random(part, generator) * part + part**2).sum() for part in floating]
    return torch.stack(terms).sum() if terms else None


def _random(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
