"""Check that an operator is symmetric, as all estimates of this package assume."""

import torch
from torch import Tensor

from optstudy.curvature.operators import Operator

MAX_ASYMMETRY = 1e-4  # largest relative asymmetry of a section; float32 errors are a hundredth of it


def check_symmetry(operator: Operator) -> None:
    """Check with two random vectors that an operator is symmetric, as a Hessian is.

    For a function whose backward pass is not differentiable, torch may return wrong second derivatives without an
    error. Most of these are not symmetric, and are detected here.

    Raises:
        ValueError: If the operator is not symmetric.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, operator.dim, generator=generator).to(operator.device, operator.dtype)
    check_section(rows, operator.apply(rows), operator.name)


def check_section(rows: Tensor, images: Tensor, name: str) -> None:
    r"""Compare :math:`x^\top A y` with :math:`y^\top A x`, for rows ``(m, n)`` and their products.

    Raises:
        ValueError: If they differ by more than rounding.
    """
    largest = images.abs().max().clamp(min=torch.finfo(images.dtype).tiny)
    scaled = images / largest  # so that squares do not underflow
    section = (rows @ scaled.T).cpu().double()
    # Products below the normal range have no digits to compare; their norm would be 1 without the clamp.
    scale = max(float(scaled.norm(dim=1).max()), 1.0) * float(rows.norm(dim=1).max())
    if float((section - section.T).abs().max()) > MAX_ASYMMETRY * scale:
        raise ValueError(
            f"the {name} is not symmetric: some function in the model or the loss cannot be differentiated twice,"
            " though torch returns numbers for it"
        )
