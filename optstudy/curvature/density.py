"""The spectral density of an operator by stochastic Lanczos quadrature."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from optstudy.curvature.arguments import check_whole
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
from optstudy.curvature.rows import components, finite_norm, norm, random_row
from optstudy.curvature.symmetry import EPS_RATIO

GRID_POINTS = 1024
MAX_EXACT = 10_000  # dimensions of a matrix that is held as a whole
VECTORS = 4  # of each random vector that are held: two of the recurrence, and the product with a copy
COMPARED = 2  # random vectors whose products are computed in both precisions
FIRST_STEPS = 8  # after which the width is known well enough to choose the precision
NOISE = 0.01  # in L1, above which products are computed in float64
SLOPE = math.sqrt(2 / math.pi)  # of a Gaussian of width 1: how fast it changes in L1 as it moves


@dataclass(frozen=True)
class Density:
    r"""A density of eigenvalues, smoothed by a Gaussian, with integral 1.

    ``spread`` is the standard error over the random vectors. ``change`` is the difference from the density with
    half as many Lanczos steps, :math:`\int |\phi_m - \phi_{m/2}|`, from 0 to 2; if it is large, use more steps.
    ``error`` is an upper estimate, at 95 %, of the distance :math:`\int |\hat\phi - \phi|` from the density of all
    eigenvalues, smoothed likewise: the sum of ``change``, of Student's quantile times the integral of ``spread``, and
    of what the noise of products can shift eigenvalues by, over the width.
    """

    grid: Tensor  # (points,) eigenvalues
    density: Tensor  # (points,)
    spread: Tensor  # (points,)
    change: float
    error: float  # from 0 to 2
    width: float  # standard deviation of the Gaussian
    nodes: (
        Tensor  # (probes, steps) of the quadrature; nan where a recurrence ended early; (1, n) if it is exact
    )
    weights: Tensor  # likewise; each row sums to 1
    products: int

    def __repr__(self) -> str:
        return short_repr(self, "grid", "density", "width", "change", "error", "products")


def spectral_density(
    operator: Operator,
    probes: int = 10,
    steps: int = 60,
    width: float | None = None,
    seed: int = 0,
    memory: int | None = None,
) -> Density:
    r"""Estimate the density of eigenvalues :math:`\phi(t) = \frac1n \sum_i g_\sigma(t - \lambda_i)`.

    From a random unit vector :math:`v`, Lanczos gives nodes :math:`\theta_j` and weights :math:`\tau_j`, the
    squares of the first components of their vectors, such that :math:`\sum_j \tau_j f(\theta_j)` is Gauss quadrature
    for :math:`v^\top f(A) v`, whose mean over :math:`v` is :math:`\operatorname{tr} f(A) / n` (Lin, Saad and Yang,
    2016; Ghorbani, Krishnan and Xiao, 2019). The three-term recurrence is not reorthogonalised: several nodes may then
    stand for one eigenvalue, but they remain a quadrature (Greenbaum, 1989; Knizhnerman, 1996).

    With as many products as dimensions or more, :math:`\phi` is computed from all eigenvalues. Where the noise of
    float32 products, measured against float64, would change the density by more than 0.01, they are computed in
    float64; of an operator in one precision only, the noise is estimated from :math:`v_1^\top A v_i - v_i^\top A v_1`.

    Args:
        operator: :math:`A`.
        probes: Number of random vectors, at least 2.
        steps: Number of Lanczos steps for each, at least 2.
        width: :math:`\sigma`; by default a hundredth of the spectrum's width.
        seed: Seed of the random vectors.
        memory: Number of vectors that may be kept, at least 9; by default as many as fit into 420 MB. Each random
            vector takes four, and as many as fit take their steps together, which is cheaper over many batches.

    Raises:
        ValueError: If there are too few probes or steps, ``width`` is too small for the grid, or the operator is not
            symmetric.
        FloatingPointError: If a product is not finite.

    Example:
        >>> a = torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64))
        >>> result = spectral_density(Operator(lambda v: v @ a, 4, a.dtype, a.device, "diagonal"))
        >>> result
        Density(grid=(1024,) float64, density=(1024,) float64, width=0.01, change=0, error=..., products=4)
        >>> round(float(torch.trapezoid(result.density, result.grid)), 3)
        1.0
    """
    return last(iter_density(operator, probes, steps, width, seed, memory))


def iter_density(
    operator: Operator,
    probes: int = 10,
    steps: int = 60,
    width: float | None = None,
    seed: int = 0,
    memory: int | None = None,
) -> Iterator[Progress[Density] | Density]:
    """Iterate `spectral_density`: yield the progress after each step, and at the end the density.

    The estimate is the density so far: of the random vectors that take the first steps together, or of those that have
    taken all steps.
    """
    check_operator(operator, "spectral_density")
    check_whole(probes=probes, steps=steps, seed=seed)
    if min(probes, steps) < 2:  # noqa: PLR2004  # one probe has no spread, and one step no half
        raise ValueError(f"probes is {probes} and steps is {steps}; give at least 2 of each")
    room(operator, memory)
    plan = _Plan(int(probes), int(steps), width, int(seed), memory)
    run = _exact if operator.dim <= min(probes * steps, MAX_EXACT) else _sampled
    yield from in_two_precisions(operator, lambda finer: run(operator, finer, plan))


@dataclass(frozen=True)
class _Plan:
    probes: int
    steps: int
    width: float | None
    seed: int
    memory: int | None


Steps = Iterator[Progress[Density] | Density]
Rule = tuple[Tensor, Tensor]  # nodes and weights


def _exact(operator: Operator, finer: bool, plan: _Plan) -> Steps:
    """Compute all eigenvalues, in float64 if possible; ``finer`` says whether it is beside float32."""
    finest, n = (in_double(operator) if finer else None) or operator, operator.dim
    columns, group = Columns(operator), max(1, min(n, room(finest, plan.memory) // 3))
    matrix = torch.empty(n, n, dtype=torch.float64)
    for start in range(0, n, group):
        images = finest.apply(unit_rows(finest, start, group))
        columns.add(images)
        matrix[start : start + group] = images
        if start + group < n:
            yield Progress(start + group, n, None)
    columns.check()
    check_end(operator)
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    noise = float((matrix - matrix.T).norm()) / math.sqrt(n)
    noise += torch.finfo(finest.dtype).eps * float(matrix.norm())
    rule = values, torch.full_like(values, 1 / n)
    yield Progress(n, n, None)
    yield _density([rule], [rule], noise, plan.width, n, n)


def _sampled(operator: Operator, finer: bool, plan: _Plan) -> Steps:
    """Estimate the density from random vectors; ``finer`` says whether there is float64 beside float32."""
    asked, generator, total = operator, torch.Generator().manual_seed(plan.seed), plan.probes * plan.steps
    symmetry, noise, spent = None if finer else Symmetry(operator), 0.0, 0
    if finer:
        noise, spent = _noise(operator, plan.seed), 2 * COMPARED
        total += spent
        yield Progress(spent, total, None)
    sections: list[_Section] = []
    estimate, undecided = None, finer
    while len(sections) < plan.probes:
        count = min(max(1, room(operator, plan.memory) // VECTORS), plan.probes - len(sections))
        group = _Group(operator, count, generator)
        for step in range(1, plan.steps + 1):
            if not group.active:
                break
            spent += group.advance(symmetry)
            if undecided and step == min(FIRST_STEPS, plan.steps):
                undecided = False
                if SLOPE * noise > NOISE * _width(group.sections, plan.width):
                    operator, noise, total = in_double(operator) or operator, EPS_RATIO * noise, total + spent
                    generator.manual_seed(plan.seed)
                    group.sections.clear()
                    break
            if not sections and count > 1 and step.bit_count() == 1:
                estimate = _estimate(group.sections, noise, plan, spent)
            yield Progress(spent, total, estimate)
        sections += group.sections
        if len(sections) > 1:
            estimate = _estimate(sections, noise, plan, spent)
    if symmetry:
        symmetry.check()
        noise = symmetry.asymmetry * math.sqrt(operator.dim)
    check_end(asked)
    yield _estimate(sections, noise, plan, spent)


def _noise(operator: Operator, seed: int) -> float:
    """Return the norm of the error of a product with a random unit vector, the root mean square of some."""
    generator, double = torch.Generator().manual_seed(seed), in_double_by_slices(operator)
    assert double is not None
    rows = torch.empty(COMPARED, operator.dim, dtype=operator.dtype, device=operator.device)
    rough = torch.empty_like(rows)
    for row, image in zip(rows, rough, strict=True):
        random_row(row, generator)
        row.div_(norm(row))
        image.copy_(operator @ row)
    errors, sizes, columns = [], [], []
    for row, image in zip(rows, rough, strict=True):
        exact = double @ row.double()
        sizes.append(finite_norm(exact, operator.name))
        columns.append(components(rows, exact))
        errors.append(norm(exact.sub_(image)))
        del exact  # leave room for the next
    scale = root_mean_square(sizes) / math.sqrt(operator.dim)
    check_asymmetry(operator, asymmetry_of(torch.stack(columns)), scale)
    return root_mean_square(errors)


@dataclass
class _Section:
    """The tridiagonal section of an operator, of which a recurrence adds a row and a column in each step."""

    diagonal: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    steps: int = 0  # so far, also after its end

    def rule(self, steps: int) -> Rule:
        """Return the quadrature after so many steps."""
        diagonal = torch.tensor(self.diagonal[:steps], dtype=torch.float64)
        matrix = torch.diag(diagonal)
        size = len(diagonal) - 1
        if size:
            beside = torch.tensor(self.beside[:size], dtype=torch.float64)
            matrix += torch.diag(beside, 1) + torch.diag(beside, -1)
        nodes, vectors = torch.linalg.eigh(matrix)
        return nodes, vectors[0].square()


class _Group:
    """Random vectors whose recurrences take their steps together."""

    def __init__(self, operator: Operator, count: int, generator: torch.Generator) -> None:
        self.operator = operator
        self.rows = torch.empty(count, operator.dim, dtype=operator.dtype, device=operator.device)
        for row in self.rows:
            random_row(row, generator)
            row.div_(norm(row))
        self.before = torch.zeros_like(self.rows)
        self.sections = [_Section() for _ in range(count)]
        self.active = list(range(count))  # those whose recurrence goes on

    def advance(self, symmetry: Symmetry | None) -> int:
        """Take a step; return the products spent."""
        spent, images = len(self.active), self.operator.apply(self.rows)
        going: list[int] = []
        for position, (row, before, image) in enumerate(zip(self.rows, self.before, images, strict=True)):
            section = self.sections[self.active[position]]
            if symmetry and not section.diagonal:
                symmetry.add(row, image)
            if _advance_(section, row, before, image, self.operator):
                going.append(position)
        del images
        for section in self.sections:
            section.steps += 1
        self.rows, self.before = self.before, self.rows
        if len(going) < spent:
            self.rows, self.before = self.rows[going], self.before[going]
            self.active = [self.active[position] for position in going]
        return spent


def _advance_(section: _Section, row: Tensor, before: Tensor, image: Tensor, operator: Operator) -> bool:
    """Replace the row before by the next one; return whether the recurrence goes on."""
    size = finite_norm(image, operator.name)
    before.mul_(-section.beside[-1] if section.beside else 0.0).add_(image)
    slope = float(components(row.unsqueeze(0), before))
    before.sub_(row, alpha=slope)
    length = norm(before)
    section.diagonal.append(slope)
    if length <= 100 * float(torch.finfo(row.dtype).eps) * size:
        return False  # the vector's Krylov space is exhausted, and the quadrature exact
    before /= length
    section.beside.append(length)
    return True


def _estimate(sections: list[_Section], noise: float, plan: _Plan, products: int) -> Density:
    """Return the density from the section of each random vector."""
    rules = [section.rule(section.steps) for section in sections]
    halves = [section.rule(max(1, section.steps // 2)) for section in sections]
    return _density(rules, halves, noise, plan.width, products, plan.steps)


def _width(sections: list[_Section], width: float | None) -> float:
    nodes = torch.cat([section.rule(section.steps)[0] for section in sections])
    return _bandwidth(float(nodes.min()), float(nodes.max()), width)


def _bandwidth(low: float, high: float, width: float | None) -> float:
    return width if width is not None else max((high - low) / 100, 1e-12 + 1e-9 * max(abs(low), abs(high)))


def _density(
    rules: list[Rule], halves: list[Rule], noise: float, width: float | None, products: int, columns: int
) -> Density:
    """Return the density from a quadrature for each random vector, and its errors."""
    ends = torch.cat([nodes for nodes, _ in rules])
    low, high = float(ends.min()), float(ends.max())
    sigma = _bandwidth(low, high, width)
    finest = (high - low) / (GRID_POINTS / 2)
    if not sigma > 0 or sigma < finest:
        raise ValueError(
            f"width is {sigma}; the grid of {GRID_POINTS} points cannot resolve less than {finest:.3g}"
        )
    grid = torch.linspace(low - 4 * sigma, high + 4 * sigma, GRID_POINTS, dtype=torch.float64)
    curves = torch.stack([_smooth(rule, grid, sigma) for rule in rules])
    density, count = curves.mean(0), len(rules)
    spread = curves.std(0) / math.sqrt(count) if count > 1 else torch.zeros_like(density)
    half_density = torch.stack([_smooth(rule, grid, sigma) for rule in halves]).mean(0)
    change = float(torch.trapezoid((density - half_density).abs(), grid))
    error = change + SLOPE * noise / sigma
    if count > 1:
        error += quantile(count) * float(torch.trapezoid(spread, grid))
    return Density(
        grid=grid,
        density=density,
        spread=spread,
        change=change,
        error=min(error, 2.0),
        width=sigma,
        nodes=torch.stack([_padded(nodes, columns) for nodes, _ in rules]),
        weights=torch.stack([_padded(weights, columns) for _, weights in rules]),
        products=products,
    )


def _smooth(rule: Rule, grid: Tensor, sigma: float) -> Tensor:
    nodes, weights = rule
    kernels = torch.exp(-((grid - nodes.unsqueeze(1)) ** 2) / (2 * sigma**2)) / (
        sigma * math.sqrt(2 * math.pi)
    )
    return weights @ kernels


def _padded(values: Tensor, length: int) -> Tensor:
    return torch.cat([values, values.new_full((length - len(values),), math.nan)])
