r"""The Hessian of cross-entropy with respect to the outputs, in closed form.

With :math:`p` the softmax of the outputs :math:`z` of one position, every :math:`-\log p_c` has the same Hessian
:math:`\operatorname{diag}(p) - p p^\top`. Class weights :math:`w`, label smoothing :math:`\epsilon` over :math:`C`
classes and probabilities :math:`q` as targets only change its factor:

==============  ===========================================================================
a class `y`     :math:`(1 - \epsilon) w_y + \frac{\epsilon}{C} \sum_c w_c`, and 0 if ignored
probabilities   :math:`\sum_c w_c ((1 - \epsilon) q_c + \frac{\epsilon}{C})`
==============  ===========================================================================
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optstudy.curvature.losses import Loss, cross_entropy_options


@torch.no_grad()
def cross_entropy_product(loss: Loss, outputs: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Return the product with the Hessian of a loss at its outputs; None if the loss is not torch's cross-entropy."""
    options = cross_entropy_options(loss)
    if options is None:
        return None
    dim = 1 if outputs.ndim > 1 else 0
    p = outputs.softmax(dim)
    factors, denominator = _factors(outputs, targets, dim, options)
    if options.get("reduction", "mean") == "mean":
        factors = factors / denominator
    factors = factors.unsqueeze(dim)
    largest = outputs.argmax(dim, keepdim=True)

    def product(tangents: Tensor) -> Tensor:
        # A constant changes nothing; this one leaves no difference of nearly equal numbers where p is nearly one class.
        scaled = p * (tangents - tangents.gather(dim, largest))
        return factors * (scaled - p * scaled.sum(dim, keepdim=True))

    return product


def _factors(
    outputs: Tensor, targets: Tensor, dim: int, options: dict[str, Any]
) -> tuple[Tensor, Tensor | float]:
    """Return the factor of each position's Hessian, and what their mean is divided by."""
    classes, smoothing = outputs.shape[dim], options.get("label_smoothing", 0.0)
    given = options.get("weight")
    weight = outputs.new_ones(classes) if given is None else given.to(outputs)
    spread = smoothing / classes * weight.sum()
    if targets.shape == outputs.shape:  # probabilities
        own = torch.tensordot(targets.movedim(dim, -1), weight, 1)
        return (1 - smoothing) * own + spread, outputs.numel() / classes
    labels = targets.long()
    counted = labels != options.get("ignore_index", -100)
    own = weight[labels.where(counted, 0)] * counted
    return (1 - smoothing) * own + spread * counted, own.sum()
