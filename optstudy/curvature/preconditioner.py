"""Preconditioners of adaptive optimizers, and the curvature beyond which an optimizer becomes unstable."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from optstudy.curvature.containers import describe
from optstudy.curvature.objective import select_parameters
from optstudy.curvature.twice import unwrapped


@dataclass(frozen=True)
class Stability:
    r"""The largest eigenvalue at which full-batch training on a quadratic is stable; a heuristic for mini-batches.

    The threshold is for the Hessian, or, for an optimizer with a preconditioner :math:`P` (held fixed), for
    :math:`P^{-1/2} H P^{-1/2}`.
    """

    threshold: float
    preconditioned: bool
    formula: str


def preconditioner(
    optimizer: torch.optim.Optimizer, model: nn.Module, parameters: str | Sequence[str] | None = None
) -> Tensor:
    r"""Return the diagonal of the matrix :math:`P` in an adaptive optimizer's step :math:`\eta P^{-1} m`.

    ============================  ==================================================================
    Adam, AdamW                   :math:`(1 - \beta_1^t)(\sqrt{v / (1 - \beta_2^t)} + \epsilon)`
    AdaGrad                       :math:`(1 + (t - 1) \lambda)(\sqrt{\sum g^2} + \epsilon)`, decay :math:`\lambda`
    RMSprop                       :math:`\sqrt{v} + \epsilon`, with the centred :math:`v` if ``centered``
    AdaHessian                    :math:`(1 - \beta_1^t)((v / (1 - \beta_2^t))^{k / 2} + \epsilon)`
    ============================  ==================================================================

    Args:
        optimizer: An optimizer that has taken at least one step.
        model: The model that it trains.
        parameters: Names or patterns; see `hessian`.

    Returns:
        ``(n,)``, in the order of the operators of this package.

    Raises:
        ValueError: If the optimizer has no known preconditioner, or has not taken a step.
    """
    model = _module(optimizer, model)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    parts = []
    for name in select_parameters(model, parameters):
        parameter = model.get_parameter(name)
        if id(parameter) not in groups:
            raise ValueError(f"{name} is not among the optimizer's parameters")
        state = optimizer.state.get(parameter, {})
        key = _average_key(optimizer, state)
        if key is None:
            raise ValueError(
                f"{type(optimizer).__name__} has no known preconditioner for {name};"
                " Adam, AdamW, AdaGrad, RMSprop and AdaHessian have one"
                " after they have updated the parameter: take a step first, and use parameters= to exclude parameters"
                " without a gradient"
            )
        scale = _SCALES[key][1](groups[id(parameter)], state, state[key])
        parts.append(scale.detach().expand_as(parameter).flatten())
    return torch.cat(parts)


def has_preconditioner(
    optimizer: torch.optim.Optimizer, model: nn.Module, parameters: str | Sequence[str] | None = None
) -> bool:
    """Whether `preconditioner` with the same arguments returns a diagonal rather than raising."""
    model = _module(optimizer, model)
    selected = [model.get_parameter(name) for name in select_parameters(model, parameters)]
    return all(_average_key(optimizer, optimizer.state.get(p, {})) is not None for p in selected)


def _module(optimizer: Any, model: Any) -> nn.Module:
    """Return the model that an optimizer trains, without the wrapper of a compiled or parallel one."""
    if not (isinstance(optimizer, torch.optim.Optimizer) and isinstance(model, nn.Module)):
        raise TypeError(
            f"optimizer is {describe(optimizer)} and model is {describe(model)}; give a torch.optim.Optimizer and the"
            " torch.nn.Module that it trains"
        )
    return unwrapped(model)


def stability(optimizer: torch.optim.Optimizer) -> Stability | None:
    r"""Return the stability threshold of an optimizer's first parameter group; None if it is unknown.

    Heavy-ball momentum :math:`\beta`, including RMSprop's: :math:`(2 + 2\beta) / \eta`. Nesterov momentum:
    :math:`(2 + 2\beta) / ((1 + 2\beta) \eta)` (Cohen et al., 2021, https://arxiv.org/abs/2103.00065). For Adam,
    AdamW, AdaHessian, and AdaGrad with :math:`\beta_1 = 0`, on the preconditioned Hessian:
    :math:`(2 + 2\beta_1) / ((1 - \beta_1) \eta)` (Cohen et al., 2022, https://arxiv.org/abs/2207.14484).

    Example:
        >>> stability(torch.optim.SGD([torch.zeros(1)], lr=0.1)).threshold
        20.0
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer is {describe(optimizer)}; give a torch.optim.Optimizer")
    group = optimizer.param_groups[0]
    name = type(optimizer).__name__
    if name in ("SGD", "RMSprop"):
        beta, preconditioned = float(group["momentum"]), name == "RMSprop"
        if group.get("dampening"):
            return None
        if group.get("nesterov"):
            return _stability(
                2 + 2 * beta, 1 + 2 * beta, group, preconditioned, "(2 + 2 beta) / ((1 + 2 beta) lr)"
            )
        return _stability(2 + 2 * beta, 1, group, preconditioned, "(2 + 2 beta) / lr" if beta else "2 / lr")
    if name in ("Adam", "AdamW", "AdaHessian"):
        beta = float(group["betas"][0])
        return _stability(2 + 2 * beta, 1 - beta, group, True, "(2 + 2 beta_1) / ((1 - beta_1) lr)")
    return _stability(2, 1, group, True, "2 / lr") if name == "Adagrad" else None


def _stability(
    numerator: float, denominator: float, group: Mapping[str, Any], preconditioned: bool, formula: str
) -> Stability:
    rate = denominator * float(group["lr"])
    return Stability(numerator / rate if rate else math.inf, preconditioned, formula)


def _adam(group: Mapping[str, Any], state: Mapping[str, Any], v: Tensor) -> Any:
    beta_1, beta_2 = group["betas"]
    t = float(state["step"])
    power = group.get("hessian_power", 1.0) / 2
    return (1 - beta_1**t) * ((v / (1 - beta_2**t)) ** power + group["eps"])


def _adagrad(group: Mapping[str, Any], state: Mapping[str, Any], v: Tensor) -> Any:
    return (1 + (float(state["step"]) - 1) * group["lr_decay"]) * (v.sqrt() + group["eps"])


def _rmsprop(group: Mapping[str, Any], state: Mapping[str, Any], v: Tensor) -> Any:
    centred = v - state["grad_avg"] ** 2 if group["centered"] else v
    return centred.clamp(min=0).sqrt() + group["eps"]


# By the key of the squared-gradient average in an optimizer's state; the first match is used.
# NAdam and RAdam have Adam's state, but are not subclasses of it.
_SCALES: dict[str, tuple[type[torch.optim.Optimizer], Callable[..., Any]]] = {
    "max_exp_avg_sq": (torch.optim.Adam, _adam),
    "exp_avg_sq": (torch.optim.Adam, _adam),
    "sum": (torch.optim.Adagrad, _adagrad),
    "square_avg": (torch.optim.RMSprop, _rmsprop),
    "exp_curvature_sq": (torch.optim.Optimizer, _adam),
}


def _average_key(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> str | None:
    """Return the key of the squared-gradient average in a parameter's state; None before the first step."""
    if not float(state.get("step", 0)):
        return None
    return next(
        (key for key, (kind, _) in _SCALES.items() if isinstance(optimizer, kind) and key in state), None
    )
