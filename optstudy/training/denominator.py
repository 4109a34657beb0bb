"""Check before a run that the losses of its batches can be averaged."""

import torch
from torch import Tensor, nn

from optstudy.curvature import objective
from optstudy.curvature.generators import model_state
from optstudy.curvature.losses import declared_denominator, is_torch_loss
from optstudy.curvature.objective import eval_mode
from optstudy.errors import UsageError
from optstudy.training.evaluation import chunks
from optstudy.workloads.models import Loss

CHECKED = 240  # examples; one more of each class
CHECKED_BATCH = 16


def check_denominator(reference: str, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> None:
    """Raise UsageError if the denominator of a loss is not known, or is not the one that it states.

    The losses of batches are averaged with that denominator, as for test losses and curvature. It is known for torch's
    own losses; for others it is the attribute ``denominator``, or else the number of examples. The check takes some
    milliseconds: it uses the model's outputs for some examples, sorted by class; see `prove_denominator`.

    Args:
        reference: The name of the loss, for messages.
        model: The model; its outputs are of shape ``(b, classes)``.
        loss: The loss.
        x: Training images, ``(n, ...)``.
        y: Their labels, ``(n,)``.
    """
    if is_torch_loss(loss) and declared_denominator(loss) is None:
        return
    device = next(model.parameters()).device
    chosen = _of_every_class(y)
    with torch.no_grad(), eval_mode(model):
        outputs = torch.cat(
            [model(inputs) for inputs, _ in chunks(x[chosen].to(device), y[chosen].to(device))]
        )
    size = min(CHECKED_BATCH, (len(chosen) + 1) // 2)
    batches = list(zip(torch.split(outputs, size), torch.split(y[chosen].to(device), size), strict=True))
    if _draws(loss, *batches[0]):
        if declared_denominator(loss) is not None:
            return
        raise UsageError(
            f"loss {reference!r} draws random numbers, so it cannot be asked what its mean is divided by; set its"
            " attribute `denominator`, a function of the targets"
        )
    try:
        found = objective(_Affine(outputs), loss, batches)
    except (ValueError, TypeError) as error:
        reason = str(error).replace("the argument denominator=, or the attribute", "the attribute")
        raise UsageError(f"loss {reference!r}: {reason}") from error
    if found.denominator is None and declared_denominator(loss) is None:
        raise UsageError(
            f"loss {reference!r} is a sum over the examples of a batch; return the mean, or state the sum by setting"
            " the attribute `denominator` of the loss to None"
        )


def _draws(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    owners = [loss] if isinstance(loss, nn.Module) else []
    before = model_state(outputs.device, owners)
    loss(outputs, targets)
    return model_state(outputs.device, owners) != before


class _Affine(nn.Module):
    """Scales and shifts outputs, by parameters that leave them unchanged."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones_like(outputs[0]))
        self.shift = nn.Parameter(torch.zeros_like(outputs[0]))

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * self.scale + self.shift


def _of_every_class(y: Tensor) -> Tensor:
    """Return indices of some examples, sorted by class, with at least one of each class."""
    order = y.argsort(stable=True)
    spread = torch.linspace(0, len(y) - 1, min(CHECKED, len(y))).long()
    first = (
        torch.cat([torch.ones(1, dtype=torch.bool, device=y.device), y[order].diff() != 0])
        .nonzero()
        .flatten()
    )
    return order[torch.unique(torch.cat([spread.to(y.device), first]))]
