"""Losses: the denominator of their mean, and how to compute them at another precision."""

import functools
import math
import numbers
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature.containers import cast, count_examples, describe
from optstudy.curvature.twice import unwrapped

Loss = Callable[[Any, Any], Tensor]  # (outputs, targets) to one number
Denominator = Callable[[Any], Tensor | float]  # targets of a batch to the divisor of its mean loss


FUNCTION = "give a function that maps the targets of a batch to the divisor of its mean loss"


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


def example_count(targets: Any) -> float:
    """Return the number of examples of a batch: the denominator of a mean over examples."""
    return float(count_examples(targets))


def declared_denominator(loss: Loss) -> tuple[Denominator | None] | None:
    """Return the attribute ``denominator`` of a loss, in a tuple; None if it has none.

    It maps the targets of a batch to the divisor of its mean loss, or is None if the loss is a sum.

    Raises:
        ValueError: If it is neither.
    """
    if not hasattr(loss, "denominator"):
        return declared_denominator(loss.func) if isinstance(loss, functools.partial) else None
    if loss.denominator is not None and not callable(loss.denominator):
        raise ValueError(
            f"the loss has denominator = {loss.denominator!r}; {FUNCTION}, or None if the loss is a sum"
        )
    return (loss.denominator,)


def loss_denominator(loss: Loss) -> Denominator | None:
    """Return the denominator of a loss, or None if it is a sum.

    It is the attribute ``denominator`` of the loss, known for torch's own losses, and else the number of examples.

    Raises:
        ValueError: If the loss is one of torch's with ``reduction="none"``, or its denominator is not a function.
    """
    if (declared := declared_denominator(loss)) is not None:
        return declared[0]
    options = _torch_options(loss)
    if options is None:
        return example_count
    match options.get("reduction", "mean"):
        case "none":
            raise ValueError(
                "the loss has reduction='none'; it must return one number, so use 'mean' or 'sum'"
            )
        case "sum":
            return None
        case "batchmean":
            return example_count
    if not options["classes"]:
        return lambda targets: float(targets.numel())
    weight, ignored = options.get("weight"), options.get("ignore_index", -100)
    return functools.partial(_class_weight, weight=weight, ignored=ignored)


def batch_weight(denominator: Denominator | None, targets: Tensor) -> float:
    r"""Return the weight of a batch's loss in :math:`\sum_c w_c L_c / w`: its denominator, or 1 for a sum.

    The same function of all targets is :math:`w`, since denominators add up.

    Raises:
        ValueError: If it cannot be computed, or is not one number, negative or not finite.
    """
    try:
        found = 1.0 if denominator is None else denominator(targets)
    except Exception as error:
        if getattr(denominator, "func", None) is _class_weight:
            raise  # of a loss of torch: the targets are wrong
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the denominator cannot be computed ({type(error).__name__}: {reason}); the targets of the batch are"
            f" {describe(targets)}"
        ) from error
    if not isinstance(found, Tensor | numbers.Real) or (isinstance(found, Tensor) and found.numel() != 1):
        raise ValueError(f"the denominator of a batch is {describe(found)}; it must be one number")
    if not 0 <= float(found) < math.inf:
        raise ValueError(f"the denominator of a batch is {float(found)}; it must be finite, and not negative")
    return float(found)


def is_torch_loss(loss: Loss) -> bool:
    """Whether a loss is one of torch's own, whose denominators are known; a subclass may compute anything."""
    return _torch_options(loss) is not None


def cross_entropy_options(loss: Loss) -> dict[str, Any] | None:
    """Return the options of torch's cross-entropy; None for any other loss."""
    options = _torch_options(loss)
    inner = uncompiled(loss)
    while isinstance(inner, functools.partial):
        inner = uncompiled(inner.func)
    is_known = type(inner) is nn.CrossEntropyLoss or inner is functional.cross_entropy
    return options if is_known else None


def uncompiled(loss: Loss) -> Loss:
    """Return the module that was given to torch.compile; any other loss as it is."""
    if not isinstance(loss, nn.Module) or _has_hooks(loss):
        return loss
    return unwrapped(loss)


def is_changed(module: nn.Module) -> bool:
    """Whether hooks, or methods set on an instance, may change what the class of a module computes."""
    return _has_hooks(module) or any(callable(getattr(type(module), name, None)) for name in vars(module))


def _has_hooks(module: nn.Module) -> bool:
    own = (held for name, held in vars(module).items() if name.endswith("_hooks") and "state" not in name)
    return any(own) or bool(nn.modules.module._has_any_global_hook())  # type: ignore[no-untyped-call]  # noqa: SLF001  # no public way to ask


# Losses whose mean is over the targets that are not ignored, by the weight of their classes.
CLASS_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss)
CLASS_FUNCTIONS = (functional.cross_entropy, functional.nll_loss)
CLASS_OPTIONS = {"weight", "ignore_index", "reduction", "label_smoothing"}
# Losses whose mean is over all elements.
ELEMENTWISE = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.SoftMarginLoss,
    nn.MultiLabelSoftMarginLoss,
    nn.HingeEmbeddingLoss,
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
    functional.multilabel_soft_margin_loss,
    functional.hinge_embedding_loss,
    functional.poisson_nll_loss,
    functional.kl_div,
)
ELEMENTWISE_OPTIONS = {"reduction", "beta", "delta", "margin", "log_input", "full", "eps", "log_target"}


def _torch_options(loss: Loss) -> dict[str, Any] | None:
    """Return the options that decide the denominator of one of torch's own losses; None for any other loss."""
    loss = uncompiled(loss)
    if isinstance(loss, nn.Module) and is_changed(loss):
        return None
    if type(loss) in CLASS_LOSSES:
        return {**vars(loss), "weight": loss.weight, "classes": True}  # type: ignore[attr-defined]  # both have it
    if type(loss) in ELEMENTWISE:
        return {**vars(loss), "classes": False}
    if isinstance(loss, functools.partial):
        known = (CLASS_OPTIONS if loss.func in CLASS_FUNCTIONS else ELEMENTWISE_OPTIONS) >= set(loss.keywords)
        options = _torch_options(loss.func)
        return options | loss.keywords if options is not None and known and not loss.args else None
    if loss in CLASS_FUNCTIONS:
        return {"classes": True}
    return {"classes": False} if loss in ELEMENTWISE_FUNCTIONS else None


def _class_weight(targets: Tensor, weight: Tensor | None, ignored: int) -> Tensor | float:
    if targets.is_floating_point():  # probabilities of classes: torch divides by the number of examples
        return targets.numel() / targets.shape[1] if targets.ndim > 1 else len(targets)
    counted = targets != ignored
    if weight is None:
        return counted.sum()
    labels = targets[counted].long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(weight):
        raise ValueError(
            f"the targets range from {int(labels.min())} to {int(labels.max())}, and the loss has weights of"
            f" {len(weight)} classes"
        )
    return weight.to(targets.device)[labels].cpu().double().sum()
