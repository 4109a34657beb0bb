"""Estimate the trace of an operator from a few products."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from optstudy.curvature.arguments import check_whole
from optstudy.curvature.basis import orthonormal
from optstudy.curvature.operators import Operator, check_end, check_operator, in_double
from optstudy.curvature.precision import in_double_by_slices
from optstudy.curvature.probes import (
    Columns,
    Symmetry,
    asymmetry_of,
    check_asymmetry,
    in_two_precisions,
    quantile,
    room,
    root_mean_square,
    unit_rows,
)
from optstudy.curvature.progress import Progress, last
from optstudy.curvature.reprs import short_repr
from optstudy.curvature.rows import chunks, components, dot, finite_norm, norm, subtract_
from optstudy.curvature.symmetry import EPS_RATIO

MIN_PRODUCTS = 6
COMPARED = 4  # signs whose products are computed in both precisions
FEW_PRODUCTS = 40  # with fewer, comparing precisions costs too many of them
NOISE_SHARE = 0.1  # of the half-width, above which all products are computed in float64
SAFETY = 4  # of what is known of rounding errors
WORKING = 5  # vectors that are needed besides the subspace


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    products: int

    def __repr__(self) -> str:
        return short_repr(self, "value", "low", "high", "products")


def trace(operator: Operator, products: int = 90, seed: int = 0, memory: int | None = None) -> Estimate:
    r"""Estimate :math:`\operatorname{tr} A` by Hutch++ (Meyer, Musco, Musco and Woodruff, 2021, algorithm 1).

    A third of the products are used to find a subspace :math:`Q` of the large eigenvalues, a third to compute the trace
    in it, and the rest to estimate the trace outside it with random signs :math:`z_i` (Hutchinson, 1990):

    .. math:: \operatorname{tr} Q^\top A Q
        + \frac{1}{p} \sum_{i=1}^p z_i^\top (I - QQ^\top) A (I - QQ^\top) z_i

    The interval is the sum of two. The first is Student's over the :math:`p` terms, for the given subspace. The second
    is for the noise of products. In float32 it is Student's over the differences :math:`z^\top A z` between both
    precisions for four further :math:`z`, whose mean is added to the estimate; if it were above a tenth of the first,
    the trace is estimated in float64. The errors of float64 products, and of those of an operator that is available in
    one precision only, are estimated from :math:`z_1^\top A z_i - z_i^\top A z_1` and from the precision of numbers:
    an error of the whole operator that leaves it symmetric, such as that of a gradient, is not seen in this.

    Args:
        operator: :math:`A`.
        products: Number of products, at least 6, of which those in float64 count as one each; three more are spent if
            the operator does not seem symmetric. With as many products as dimensions or more, the trace is exact up to
            rounding.
        seed: Seed of the random signs.
        memory: Number of vectors that may be kept, at least 9; by default as many as fit into 420 MB. With fewer than
            two thirds of the products, the subspace is smaller, and more products are used outside it.

    Raises:
        ValueError: If there are too few products, or the operator is not symmetric.
        FloatingPointError: If a product is not finite.

    Example:
        >>> a = torch.diag(torch.arange(5.0))
        >>> trace(Operator(lambda v: v @ a, 5, a.dtype, a.device, "diagonal")).value
        10.0
    """
    return last(iter_trace(operator, products, seed, memory))


def iter_trace(
    operator: Operator, products: int = 90, seed: int = 0, memory: int | None = None
) -> Iterator[Progress[float] | Estimate]:
    """Iterate `trace`: yield the progress after each group of products, and at the end the estimate.

    The estimate is the trace in the subspace at first, and then includes that outside it so far.
    """
    check_operator(operator, "trace")
    check_whole(products=products, seed=seed)
    if products < MIN_PRODUCTS:
        raise ValueError(
            f"products is {products}; give at least {MIN_PRODUCTS}, since one random vector has no spread"
        )
    room(operator, memory)
    steps = _exact if operator.dim <= products else _hutchplusplus
    budget = _Budget(products, int(seed), memory)
    yield from in_two_precisions(operator, lambda finer: steps(operator, finer, budget))


@dataclass(frozen=True)
class _Budget:
    products: int
    seed: int
    memory: int | None


Steps = Iterator[Progress[float] | Estimate]


def _exact(operator: Operator, finer: bool, budget: _Budget) -> Steps:
    """Compute every diagonal entry, in float64 if possible; ``finer`` says whether it is beside float32."""
    finest, n = (in_double(operator) if finer else None) or operator, operator.dim
    compared = COMPARED if finer and n + COMPARED <= budget.products else 0
    signs = _signs(operator, compared, torch.Generator().manual_seed(budget.seed))
    combined = torch.zeros_like(signs, dtype=finest.dtype)  # products with the signs
    diagonal: list[float] = []
    columns = Columns(operator)
    group = max(1, min(n, room(finest, budget.memory) // 3))
    for start in range(0, n, group):
        images = finest.apply(unit_rows(finest, start, group))
        columns.add(images)
        diagonal += images[:, start:].diagonal().tolist()
        combined += signs[:, start : start + group].to(images.dtype) @ images
        if start + group < n:
            yield Progress(start + group, n + compared, None)
    columns.check()
    error = n * columns.asymmetry + _eps(finest) * math.fsum(columns.sizes)
    if compared:
        images = operator.apply(signs.to(operator.dtype))
        pairs = zip(signs, combined, images, strict=True)
        error += EPS_RATIO * _size([dot(sign, fine) - dot(sign, rough) for sign, fine, rough in pairs])
    check_end(operator)
    value, error = math.fsum(diagonal), SAFETY * error
    yield Estimate(value, value - error, value + error, n + compared)


def _hutchplusplus(operator: Operator, finer: bool, budget: _Budget) -> Steps:
    """Estimate the trace inside and outside a subspace; ``finer`` says whether there is float64 beside float32."""
    asked, generator, products = operator, torch.Generator().manual_seed(budget.seed), budget.products
    differences: list[float] = []
    if finer and products < FEW_PRODUCTS:
        operator, finer = in_double(operator) or operator, False
    if finer:
        differences = _differences(operator, generator)
        yield Progress(2 * COMPARED, products, None)
    spent, vectors = 2 * len(differences), room(operator, budget.memory)
    size = min((products - spent) // 3, vectors - WORKING)
    group = max(1, min(size, (vectors - size) // 6))
    inside = torch.empty(size, operator.dim, dtype=operator.dtype, device=operator.device)
    for done in _sketch(operator, inside, group, generator):
        yield Progress(spent + done, products, None)
    inside, spent = orthonormal(inside), spent + size
    outside = _Outside(operator, inside, generator)
    if finer:
        spent += outside.extend(COMPARED, group)
        if _half_width(differences) > NOISE_SHARE * outside.half_width(products - spent - len(inside)):
            operator, finer = in_double(operator) or operator, False
            outside = _Outside(operator, inside, generator)
    within = _Inside(operator, inside)
    for start in range(0, len(inside), group):
        spent += within.extend(inside[start : start + group])
        yield Progress(spent, products, within.value if start + group >= len(inside) else None)
    while spent < products:
        spent += outside.extend(min(group, products - spent), group)
        yield Progress(spent, products, within.value + _mean(outside.terms))
    if not finer:
        outside.symmetry.check(math.hypot(*within.sizes))
    check_end(asked)
    value, half_width = within.value + _mean(outside.terms), _half_width(outside.terms)
    if finer:
        value, half_width = value + _mean(differences), half_width + _half_width(differences)
    half_width += SAFETY * (within.error + outside.error + EPS_RATIO * _size(differences))
    yield Estimate(value, value - half_width, value + half_width, spent)


def _differences(operator: Operator, generator: torch.Generator) -> list[float]:
    r"""Return :math:`z^\top A z` in float64 less that in float32, for some signs."""
    signs = _signs(operator, COMPARED, generator)
    rough = [dot(sign, _product(operator, sign)) for sign in signs]
    double, sizes, columns = in_double_by_slices(operator), [], []
    assert double is not None
    for sign in signs:
        image = _product(double, sign)
        sizes.append(finite_norm(image, operator.name))
        columns.append(components(signs, image))
        del image  # leave room for the next
    section = torch.stack(columns)
    check_asymmetry(operator, asymmetry_of(section), root_mean_square(sizes))
    return (section.diagonal() - torch.tensor(rough, dtype=torch.float64)).tolist()


def _product(operator: Operator, sign: Tensor) -> Tensor:
    return operator @ sign.to(operator.dtype)


def _sketch(operator: Operator, rows: Tensor, group: int, generator: torch.Generator) -> Iterator[int]:
    """Replace rows by products with signs, and yield how many are done."""
    done = 0
    for part in torch.split(rows, group):
        part.copy_(_signs(operator, len(part), generator))
        part.copy_(operator.apply(part))
        for row in part:
            finite_norm(row, operator.name)
        done += len(part)
        yield done


@dataclass
class _Inside:
    """The trace in the span of rows, which are orthonormal up to the rounding of their precision."""

    operator: Operator
    rows: Tensor
    columns: list[Tensor] = field(default_factory=list)  # of the section
    sizes: list[float] = field(default_factory=list)  # norms of the products

    def extend(self, rows: Tensor) -> int:
        """Add the products of the next rows; return their number."""
        images = self.operator.apply(rows.to(self.operator.dtype))
        self.columns += [components(self.rows, image) for image in images]
        self.sizes += [finite_norm(image, self.operator.name) for image in images]
        return len(rows)

    @property
    def value(self) -> float:
        r"""The trace inside; with :math:`P = Q^\top Q`, that is of :math:`A - (I - P) A (I - P)`."""
        if not self.columns:
            return 0.0
        section, gram = torch.stack(self.columns), torch.zeros(2 * self.rows.shape[:1], dtype=torch.float64)
        for part in chunks(self.rows.shape[1]):
            block = self.rows[:, part].double()
            gram += (block @ block.T).cpu()
        return 2 * float(section.trace()) - float((gram * section).sum())

    @property
    def error(self) -> float:
        """What the rounding errors of products and of numbers can change the trace by."""
        if not self.columns:
            return 0.0
        section = torch.stack(self.columns)
        return len(section) * asymmetry_of(section) + _eps(self.operator) * math.fsum(self.sizes)


@dataclass
class _Outside:
    """The trace outside the span of rows, from random signs."""

    operator: Operator
    inside: Tensor
    generator: torch.Generator
    terms: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)  # of the signs outside

    def __post_init__(self) -> None:
        self.symmetry = Symmetry(self.operator)

    def extend(self, count: int, group: int) -> int:
        """Add the terms of so many signs; return their number."""
        for start in range(0, count, group):
            rows = _signs(self.operator, min(group, count - start), self.generator).to(self.operator.dtype)
            for row in rows:
                subtract_(row, components(self.inside, row), self.inside)
            for row, image in zip(rows, self.operator.apply(rows), strict=True):
                self.symmetry.add(row, image)
                self.terms.append(dot(row, image))
                self.norms.append(norm(row))
        return count

    def half_width(self, more: int) -> float:
        """Predict the half-width of the mean's interval after further signs."""
        return _half_width(self.terms, len(self.terms) + more)

    @property
    def error(self) -> float:
        """What the rounding errors of products and of numbers can change the mean by."""
        sizes = [a * b for a, b in zip(self.norms, self.symmetry.sizes, strict=True)]
        return self.symmetry.asymmetry + _eps(self.operator) * _mean(sizes)


def _eps(operator: Operator) -> float:
    return float(torch.finfo(operator.dtype).eps)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _half_width(values: list[float], count: int | None = None) -> float:
    """Return half the width of Student's interval for a mean, or predict it for a mean of so many values."""
    count = count or len(values)
    spread = float(torch.tensor(values, dtype=torch.float64).std())
    return quantile(count) * spread / math.sqrt(count)


def _size(values: list[float]) -> float:
    """Return the largest magnitude that the mean of a population may have; 0 if there are no values."""
    return abs(_mean(values)) + _half_width(values) if values else 0.0


def _signs(operator: Operator, count: int, generator: torch.Generator) -> Tensor:
    bits = torch.randint(0, 2, (count, operator.dim), generator=generator, dtype=torch.int8)
    return bits.mul_(2).sub_(1).to(operator.device)
