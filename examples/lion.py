"""Lion (Chen et al., NeurIPS 2023), https://arxiv.org/abs/2302.06675."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT


class Lion(torch.optim.Optimizer):
    """Moves every weight by lr, in the direction of the sign of the averaged gradient."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update the weights from their gradients, which backward() has left in .grad."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            beta_1, beta_2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(average.lerp(weight.grad, 1 - beta_1).sign(), alpha=group["lr"])
                average.lerp_(weight.grad, 1 - beta_2)
        return loss
