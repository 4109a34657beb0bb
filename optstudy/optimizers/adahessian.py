r"""AdaHessian: Adam with a stochastic diagonal of the Hessian in place of the squared gradient.

Yao, Gholami, Shen, Mustafa, Keutzer and Mahoney, "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine
Learning", AAAI 2021, https://arxiv.org/abs/2006.00719, Algorithm 1. With random signs :math:`z` drawn at each
step :math:`t`, gradient :math:`g` and Hessian :math:`H`:

.. math::
    D &= |H z|, \text{ for a convolution's kernel averaged over its spatial axes} \\
    m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
    v &\leftarrow \beta_2 v + (1 - \beta_2) D^2 \\
    \theta &\leftarrow \theta - \eta \left( \frac{m / (1 - \beta_1^t)}
        {\left( v / (1 - \beta_2^t) \right)^{k / 2} + \epsilon} + \lambda \theta \right)

The paper's :math:`D` is :math:`z \odot H z`, whose expectation is the diagonal of :math:`H`. Only its square
is used, and :math:`|z| = 1`, so signs matter only in the spatial mean. Like the authors' code, this
implementation averages absolute values.
"""

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optstudy.curvature.twice import (
    dense,
    explained_checkpoint,
    explained_derivative,
    twice_differentiable,
)


class AdaHessian(torch.optim.Optimizer):
    r"""AdaHessian (Yao et al., 2021).

    A step costs a forward pass, a backward pass and a Hessian-vector product. A parameter with more than two axes is
    treated as a convolution's kernel (Conv1d, Conv2d or Conv3d), and its curvature is averaged over all axes after the
    second. Parameters that are frozen or that the loss does not use are not updated, not even by weight decay. Where
    the curvature is zero, the step is the average gradient divided by `eps`.

    Args:
        params: Tensors, or parameter groups with their options.
        lr: Learning rate :math:`\eta`.
        betas: Decay rates :math:`(\beta_1, \beta_2)` of the averages of gradient and squared curvature.
        eps: :math:`\epsilon`, added to the denominator.
        weight_decay: :math:`\lambda`, decoupled from the gradient.
        hessian_power: :math:`k` from 0 (the average gradient alone) to 1.
        seed: Seed of the random signs, drawn from one generator per device; torch's global generators are not used.

    The closure is called with implementations that have second derivatives: attention by its plain kernel, and compiled
    code as it is written. Gradients of sparse embeddings are made dense.

    Raises:
        ValueError: If an option is outside its domain, or a parameter is complex.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.15,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed is {seed}; give a whole number from 0 to 2**63 - 1")
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "hessian_power": hessian_power})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Args:
            param_group: ``params``, and the options that differ from the constructor's.

        Raises:
            ValueError: If an option is outside its domain, or a parameter is complex.
        """
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for index, parameter in enumerate(param_group["params"]):  # a list by now
            if parameter.is_complex():
                self.param_groups.pop()
                raise ValueError(
                    f"parameter {index} of the group is complex ({parameter.dtype}, shape {tuple(parameter.shape)});"
                    " AdaHessian takes real parameters; hold real and imaginary parts (torch.view_as_real)"
                )

    # torch declares an optional closure that returns a float; here it is required, and returns a tensor with its graph.
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Update the parameters once; ``.grad`` is not changed.

        Args:
            closure: Returns the loss, a scalar with its graph, and does not call backward. Called once, with
                gradients enabled.

        Returns:
            The loss before the update, detached.

        Raises:
            ValueError: If an operation has no second derivative in torch, such as `nn.EmbeddingBag`.
        """
        with torch.enable_grad(), twice_differentiable(), explained_checkpoint(), explained_derivative():
            loss = closure()
            used = self._gradients(loss)
            products = self._hessian_products([p for p, _, _ in used], [gradient for _, _, gradient in used])
        with torch.no_grad():
            for (parameter, group, gradient), product in zip(used, products, strict=True):
                self._update(parameter, group, gradient, product)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer, with the states of the random generators under ``generators``."""
        generators = {str(device): self._generator(device).get_state() for device in self._devices()}
        return {**super().state_dict(), "generators": generators}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state.

        Args:
            state_dict: State returned by `state_dict`. Generators of devices that it lacks start from ``seed``.

        Raises:
            ValueError: If it belongs to another optimizer, or its parameter groups do not match.
        """
        if "generators" not in state_dict:
            raise ValueError("the state has no 'generators', so it is not a state of AdaHessian")
        super().load_state_dict(state_dict)
        self._generators.clear()
        for device in self._devices():
            if (state := state_dict["generators"].get(str(device))) is not None:
                self._generator(device).set_state(state.cpu())

    def __getstate__(self) -> dict[str, Any]:
        # torch's own method returns only three attributes when an optimizer is copied or pickled.
        return {**super().__getstate__(), "_seed": self._seed, "_generators": self._generators}

    def _gradients(self, loss: Tensor) -> list[tuple[Tensor, dict[str, Any], Tensor]]:
        """Return each trainable parameter that the loss uses, with its group and its gradient in a graph."""
        trainable = [(p, group) for group in self.param_groups for p in group["params"] if p.requires_grad]
        if not trainable:
            return []
        # backward(create_graph=True) would tie parameter and graph into a cycle that is never freed.
        gradients = torch.autograd.grad(loss, [p for p, _ in trainable], create_graph=True, allow_unused=True)
        used = [(p, group, g) for (p, group), g in zip(trainable, gradients, strict=True) if g is not None]
        return [(p, group, g) for (p, group, _), g in zip(used, dense([g for _, _, g in used]), strict=True)]

    def _hessian_products(self, parameters: list[Tensor], gradients: list[Tensor]) -> Iterable[Tensor]:
        """Return each parameter's part of H z; zero where the loss is linear in it."""
        signs = [self._signs(p) for p in parameters]
        nonlinear = [(g, z) for g, z in zip(gradients, signs, strict=True) if g.requires_grad]
        if not nonlinear:
            return [torch.zeros_like(p) for p in parameters]
        outputs, directions = zip(*nonlinear, strict=True)
        return dense(
            torch.autograd.grad(outputs, parameters, directions, allow_unused=True, materialize_grads=True)
        )

    def _update(self, parameter: Tensor, group: dict[str, Any], gradient: Tensor, product: Tensor) -> None:
        """Update one parameter in place."""
        curvature = _spatial_mean(product.abs())
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_curvature_sq"] = torch.zeros_like(curvature)
        state["step"] += 1
        lr, (beta1, beta2), power = group["lr"], group["betas"], group["hessian_power"]
        m = state["exp_avg"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        v = state["exp_curvature_sq"].mul_(beta2).addcmul_(curvature, curvature, value=1 - beta2)
        denominator = (v / (1 - beta2 ** state["step"])).pow_(power / 2).add_(group["eps"])
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.addcdiv_(m, denominator, value=-lr / (1 - beta1 ** state["step"]))

    def _signs(self, parameter: Tensor) -> Tensor:
        """Return independent signs, each -1 or 1 with probability 1/2, of a parameter's shape."""
        bits = torch.empty_like(parameter).random_(2, generator=self._generator(parameter.device))
        return bits.mul_(2).sub_(1)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]

    def _devices(self) -> set[torch.device]:
        return {p.device for group in self.param_groups for p in group["params"]}


def _spatial_mean(curvature: Tensor) -> Tensor:
    """Average over all axes after the second; shape (out, in, 1, ...) for a kernel."""
    axes = tuple(range(2, curvature.dim()))
    return curvature.mean(dim=axes, keepdim=True) if axes else curvature


def _check(options: dict[str, Any]) -> None:
    """Raise ValueError for options outside their domain, NaN included."""
    for name in ("lr", "eps", "weight_decay"):
        if not 0 <= options[name] < inf:
            raise ValueError(f"{name} is {options[name]}; give a finite number of at least 0")
    beta1, beta2 = options["betas"]
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueError(f"betas are {options['betas']}; give two numbers that are at least 0 and below 1")
    if not 0 <= options["hessian_power"] <= 1:
        raise ValueError(f"hessian_power is {options['hessian_power']}; give a number from 0 to 1")
