"""Losses: the denominator of their mean, and how to compute them at another precision."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[Any, Tensor], Tensor]  # (outputs, targets) to one number
Denominator = Callable[[Tensor], float]  # targets of a batch to the divisor of its mean loss


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a floating-point tensor in ``dtype``, or any other tensor unchanged."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def cast_loss(loss: Loss, dtype: torch.dtype) -> Loss:
    """Return a loss whose own tensors, such as class weights, have ``dtype``."""
    if isinstance(loss, functools.partial):
        keywords = {name: cast(v, dtype) if isinstance(v, Tensor) else v for name, v in loss.keywords.items()}
        return functools.partial(cast_loss(loss.func, dtype), *loss.args, **keywords)
    if not isinstance(loss, nn.Module):
        return loss
    own = {**dict(loss.named_parameters()), **dict(loss.named_buffers())}
    if all(cast(tensor, dtype) is tensor for tensor in own.values()):
        return loss
    tensors = {name: cast(tensor.detach(), dtype) for name, tensor in own.items()}
    return lambda outputs, targets: torch.func.functional_call(loss, tensors, (outputs, targets))


# Losses whose mean is over all elements.
ELEMENTWISE = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.SoftMarginLoss,
    nn.PoissonNLLLoss,
    nn.KLDivLoss,
)
ELEMENTWISE_FUNCTIONS = (
    functional.mse_loss,
    functional.l1_loss,
    functional.smooth_l1_loss,
    functional.huber_loss,
    functional.binary_cross_entropy,
    functional.binary_cross_entropy_with_logits,
    functional.soft_margin_loss,
    functional.poisson_nll_loss,
    functional.kl_div,
)


def loss_denominator(loss: Loss) -> Denominator | None:
    """Return the denominator of a loss; None if it is a sum."""
    options = _options(loss)
    if options.get("reduction", "mean") == "none":
        raise ValueError("the loss has reduction='none'; it must return one number, so use 'mean' or 'sum'")
    if options.get("reduction", "mean") == "sum":
        return None
    if options.get("classes"):
        return functools.partial(
            _class_weight, weight=options.get("weight"), ignored=options.get("ignore_index", -100)
        )
    if options.get("elements") and options.get("reduction", "mean") == "mean":
        return lambda targets: float(targets.numel())
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
    elements = isinstance(loss, ELEMENTWISE) or loss in ELEMENTWISE_FUNCTIONS
    return {"elements": elements, "reduction": getattr(loss, "reduction", "mean")}


def _class_weight(targets: Tensor, weight: Tensor | None, ignored: int) -> float:
    if targets.is_floating_point():  # probabilities of classes: torch divides by the number of examples
        return float(targets.numel() / targets.shape[1])
    counted = targets[targets != ignored]
    return float(
        counted.numel() if weight is None else weight[counted.long().to(weight.device)].cpu().double().sum()
    )


def is_torch_loss(loss: Loss) -> bool:
    """Whether a loss is one of torch's own, whose denominators are known."""
    if isinstance(loss, functools.partial):
        return is_torch_loss(loss.func)
    return isinstance(loss, nn.modules.loss._Loss) or getattr(loss, "__module__", "") == functional.__name__  # noqa: SLF001  # their common base class
