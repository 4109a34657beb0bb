"""How an optimizer scales its steps, and the curvature beyond which they would overshoot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from optstudy.curvature.objective import chosen


@dataclass(frozen=True)
class Stability:
    r"""The first eigenvalue beyond which full-batch steps on a quadratic grow; a heuristic for mini-batches.

    It is that of the Hessian, or, for an optimizer with a preconditioner :math:`P` held fixed, of
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
    Adam, AdamW, NAdam            :math:`(1 - \beta_1^t)(\sqrt{v / (1 - \beta_2^t)} + \epsilon)`
    AdaGrad                       :math:`\sqrt{\sum g^2} + \epsilon`
    RMSprop                       :math:`\sqrt{v} + \epsilon`
    AdaHessian                    :math:`(1 - \beta_1^t)((v / (1 - \beta_2^t))^{k / 2} + \epsilon)`
    ============================  ==================================================================

    Args:
        optimizer: After at least one step.
        model: Whose parameters it trains.
        parameters: Which are meant; see `hessian`.

    Returns:
        ``(n,)``, in the order of the operators of this package.

    Raises:
        ValueError: If the optimizer keeps no such scale, or has not stepped.
    """
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    parts = []
    for name in chosen(model, parameters):
        parameter = model.get_parameter(name)
        if id(parameter) not in groups:
            raise ValueError(f"{name} is not among the optimizer's parameters")
        state = optimizer.state.get(parameter, {})
        scale = _scale(groups[id(parameter)], state)
        if scale is None:
            what = type(optimizer).__name__
            raise ValueError(
                f"{what} keeps no scale of the steps of {name}; Adam, AdaGrad, RMSprop and AdaHessian do"
            )
        parts.append(scale.detach().expand_as(parameter).flatten())
    return torch.cat(parts)


def stability(optimizer: torch.optim.Optimizer) -> Stability | None:
    r"""Return where an optimizer's first group of parameters loses stability; None where it is not known.

    Heavy-ball momentum :math:`\beta`: :math:`(2 + 2\beta) / \eta`. Nesterov's:
    :math:`(2 + 2\beta) / ((1 + 2\beta) \eta)` (Cohen et al., 2021, https://arxiv.org/abs/2103.00065).
    With an average of gradients of rate :math:`\beta_1`, on the preconditioned Hessian:
    :math:`(2 + 2\beta_1) / ((1 - \beta_1) \eta)` (Cohen et al., 2022, https://arxiv.org/abs/2207.14484).

    Example:
        >>> stability(torch.optim.SGD([torch.zeros(1)], lr=0.1)).threshold
        20.0
    """
    group = optimizer.param_groups[0]
    rate, name = float(group["lr"]), type(optimizer).__name__
    if name == "SGD":
        beta = float(group["momentum"])
        if group["dampening"]:
            return None
        if group["nesterov"]:
            return Stability(
                (2 + 2 * beta) / ((1 + 2 * beta) * rate), False, "(2 + 2 beta) / ((1 + 2 beta) lr)"
            )
        return Stability((2 + 2 * beta) / rate, False, "(2 + 2 beta) / lr" if beta else "2 / lr")
    if name in ("Adam", "AdamW", "AdaHessian"):
        beta = float(group["betas"][0])
        return Stability((2 + 2 * beta) / ((1 - beta) * rate), True, "(2 + 2 beta_1) / ((1 - beta_1) lr)")
    if name == "Adagrad" or (name == "RMSprop" and not group["momentum"] and not group["centered"]):
        return Stability(2 / rate, True, "2 / lr")
    return None


def _adam(group: Mapping[str, Any], state: Mapping[str, Any], v: Tensor) -> Any:
    beta_1, beta_2 = group["betas"]
    t = float(state["step"])
    power = group.get("hessian_power", 1.0) / 2
    return (1 - beta_1**t) * ((v / (1 - beta_2**t)) ** power + group["eps"])


def _root(group: Mapping[str, Any], state: Mapping[str, Any], v: Tensor) -> Any:  # noqa: ARG001  # as _adam
    return v.sqrt() + group["eps"]


# What optimizers call the average of squares in their state, the first that is there.
_SCALES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], Tensor], Any]] = {
    "max_exp_avg_sq": _adam,
    "exp_avg_sq": _adam,
    "exp_curvature_sq": _adam,
    "sum": _root,
    "square_avg": _root,
}


def _scale(group: Mapping[str, Any], state: Mapping[str, Any]) -> Tensor | None:
    for key, scale in _SCALES.items():
        if key in state and "acc_delta" not in state:  # Adadelta's step has no fixed rate
            found: Tensor = scale(group, state, state[key])
            return found
    return None
