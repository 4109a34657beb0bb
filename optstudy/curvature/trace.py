"""Estimate the trace of an operator from a few products."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.arguments import check_whole
from optstudy.curvature.basis import new_directions
from optstudy.curvature.operators import Operator, check_end, check_operator
from optstudy.curvature.progress import Progress, last
from optstudy.curvature.reprs import short_repr


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    products: int

    def __repr__(self) -> str:
        return short_repr(self, "value", "low", "high", "products")


def trace(operator: Operator, products: int = 90, seed: int = 0) -> Estimate:
    r"""Estimate :math:`\operatorname{tr} A` by Hutch++ (Meyer, Musco, Musco and Woodruff, 2021, algorithm 1).

    A third of the products are used to find a subspace :math:`Q` of the large eigenvalues, a third to compute the trace
    in it exactly, and the rest to estimate the trace outside it with random signs :math:`z_i` (Hutchinson, 1990):

    .. math:: \operatorname{tr} Q^\top A Q
        + \frac{1}{p} \sum_{i=1}^p z_i^\top (I - QQ^\top) A (I - QQ^\top) z_i

    The interval is Student's t interval over the :math:`p` terms, for the given subspace.

    Args:
        operator: :math:`A`.
        products: Number of products, at least 6. With as many products as dimensions or more, the trace is exact.
        seed: Seed of the random signs.

    Raises:
        ValueError: If there are too few products.

    Example:
        >>> a = torch.diag(torch.arange(5.0))
        >>> trace(Operator(lambda v: v @ a, 5, a.dtype, a.device, "diagonal")).value
        10.0
    """
    return last(iter_trace(operator, products, seed))


def iter_trace(operator: Operator, products: int = 90, seed: int = 0) -> Iterator[Progress[float] | Estimate]:
    """Iterate `trace`: yield the progress after each third of the products, and at the end the estimate.

    The estimate after the second third is the trace in the subspace.
    """
    check_operator(operator, "trace")
    check_whole(products=products, seed=seed)
    min_products = 6
    if products < min_products:
        raise ValueError(
            f"products is {products}; give at least {min_products}, since one random vector has no spread"
        )
    if operator.dim <= products:
        unit = torch.eye(operator.dim, dtype=operator.dtype, device=operator.device)
        exact = float(operator.apply(unit).diagonal().cpu().double().sum())
        check_end(operator)
        yield Estimate(exact, exact, exact, operator.dim)
        return
    generator, third = torch.Generator().manual_seed(int(seed)), products // 3
    sketch = operator.apply(_signs(operator, third, generator))
    yield Progress(third, products, None)
    inside = new_directions(sketch[:0], sketch)
    within = float((inside * operator.apply(inside)).cpu().double().sum()) if len(inside) else 0.0
    yield Progress(third + len(inside), products, within)
    signs = _signs(operator, products - third - len(inside), generator)
    outside = signs - (signs @ inside.T) @ inside
    terms = (outside * operator.apply(outside)).double().sum(dim=1).cpu()
    from scipy import stats

    half_width = float(stats.t.ppf(0.975, len(terms) - 1) * terms.std() / math.sqrt(len(terms)))
    check_end(operator)
    value = within + float(terms.mean())
    yield Estimate(value, value - half_width, value + half_width, third + len(inside) + len(terms))


def _signs(operator: Operator, count: int, generator: torch.Generator) -> Tensor:
    bits = torch.randint(0, 2, (count, operator.dim), generator=generator)
    return (2 * bits - 1).to(operator.device, operator.dtype)
