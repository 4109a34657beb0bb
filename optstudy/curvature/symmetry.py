"""Check that an operator is symmetric, as all estimates of this package assume."""

import torch
from torch import Tensor, nn

from optstudy.curvature.batches import Data
from optstudy.curvature.build import unchecked_objective
from optstudy.curvature.losses import Loss
from optstudy.curvature.objective import eval_mode
from optstudy.curvature.operators import Operator, check_operator, hessian_of, in_double
from optstudy.curvature.second_derivatives import check_custom_functions

# Relative asymmetry of a section that is suspicious; models that compute in float32 inside exceed that of float64.
SUSPECT_ASYMMETRY = {torch.float32: 1e-5, torch.float64: 1e-12}
QUESTION = 5  # products, at most
EPS_RATIO = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
ROUNDING = 10  # largest ratio of an asymmetry to the rounding errors of products


def check_symmetry(operator: Operator) -> None:
    r"""Check with random vectors that an operator is symmetric, as a Hessian is.

    For a function whose backward pass is not differentiable, torch may return wrong second derivatives without an
    error. Most of these are not symmetric: :math:`x^\top A y` and :math:`y^\top A x` differ by more than rounding,
    which :math:`A (x + y) - A x - A y` measures. The three products are in float64 if the operator is available in it.
    Two more in float32 tell what is common to all of them, such as the rounding of a gradient near zero.

    Raises:
        ValueError: If the operator is not symmetric, naming the module that is to blame if there is one.
    """
    check_operator(operator, "check_symmetry")
    ask_symmetry(operator)


def ask_symmetry(operator: Operator) -> int:
    """Check that an operator is symmetric; see `check_symmetry`. Returns the products spent, at most `QUESTION`."""
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(2, operator.dim, generator=generator, dtype=torch.float64)
    rows = torch.cat([pair, pair.sum(0, keepdim=True)]).to(operator.device)
    try:
        finest = in_double(operator) or operator
        rows, images = rows.to(finest.dtype), finest.apply(rows.to(finest.dtype))
    except TypeError:  # the model or the loss has constants in float32
        rows, images = rows.to(operator.dtype), operator.apply(rows.to(operator.dtype))
    x, y, both = _scaled(images)
    rounding = float((both - x - y).norm()) * float(rows.norm(dim=1).max())
    rounding += 10 * torch.finfo(rows.dtype).eps * _scale(rows, images)
    asymmetry, spent = _asymmetry(rows[:2], images[:2], images), len(rows)
    if asymmetry > ROUNDING * rounding:
        spent = QUESTION
        rounding += _cancellation(operator, rows[:2], images[:2]) * float(rows.norm(dim=1).max())
    if asymmetry > ROUNDING * rounding:
        raise ValueError(_not_symmetric(operator))
    return spent


def _cancellation(operator: Operator, rows: Tensor, images: Tensor) -> float:
    """Return the error of float64 products that all share, such as that of a gradient, by products in float32."""
    single = operator if operator.dtype == torch.float32 else None
    if single is None and operator.in_dtype is not None:
        single = operator.in_dtype(torch.float32)
    if single is None or images.dtype != torch.float64:
        return 0.0
    difference = single.apply(rows.to(single.dtype)).double() - images
    return EPS_RATIO * float(_scaled(difference, images).norm(dim=1).max())


def is_suspicious(dtype: torch.dtype, asymmetry: float, scale: float) -> bool:
    r"""Whether a section suggests that its operator is not symmetric, or that its products are noisy.

    A section has :math:`|h_{ij} - h_{ji}|` for free, but only further products tell these apart; see `check_symmetry`.

    Args:
        dtype: Precision of the products of the section.
        asymmetry: Largest :math:`|h_{ij} - h_{ji}|`.
        scale: Largest magnitude of a value of the operator.
    """
    return asymmetry > SUSPECT_ASYMMETRY[dtype] * scale


def check_second_derivatives(model: nn.Module, loss: Loss, batch: Data) -> None:
    """Check that torch differentiates a model's loss twice correctly, as AdaHessian and curvature require.

    One question of symmetry about the Hessian of all trainable parameters on a batch, in eval mode; see
    `check_symmetry`. Second derivatives of one's own `torch.autograd.Function` are compared with differences of
    gradients as well, since they can be symmetric and wrong. The model may draw random numbers.

    Args:
        model: The model; it is not modified.
        loss: Loss of a batch.
        batch: A batch ``(inputs, targets)``; a few examples are enough.

    Raises:
        ValueError: If the Hessian is not symmetric or wrong, naming the module that is to blame if there is one.
    """
    with eval_mode(model):
        function = unchecked_objective(model, loss, batch, parameters=None, dtype=None)
        with function.generators.at(function.data, function.device):
            check_symmetry(hessian_of(function))
            check_custom_functions(function)


def _asymmetry(rows: Tensor, images: Tensor, every: Tensor) -> float:
    section = (rows @ _scaled(images, every).T).cpu().double()
    return float((section - section.T).abs().max())


def _scaled(images: Tensor, every: Tensor | None = None) -> Tensor:
    """Return images divided by the largest entry, so that their squares do not underflow."""
    every = images if every is None else every
    return images / every.abs().max().clamp(min=torch.finfo(images.dtype).tiny)


def _scale(rows: Tensor, images: Tensor) -> float:
    # Products below the normal range have no digits to compare; their norm would be 1 without the clamp.
    return max(float(_scaled(images).norm(dim=1).max()), 1.0) * float(rows.norm(dim=1).max())


def _not_symmetric(operator: Operator) -> str:
    blamed = operator.blame() if operator.blame else None
    reason = blamed or (
        "some function in the model or the loss cannot be differentiated twice, though torch returns numbers for it"
    )
    return f"the {operator.name} is not symmetric: {reason}"
