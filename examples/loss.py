"""A loss of your own: a function of logits and labels that returns the mean over the mini-batch."""

from torch import Tensor
from torch.nn.functional import cross_entropy


def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy against labels that keep 90 % of their weight and share the rest among all classes."""
    return cross_entropy(outputs, targets, label_smoothing=0.1)
