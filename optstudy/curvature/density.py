"""The spectral density of an operator by stochastic Lanczos quadrature."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.curvature.arguments import check_whole
from optstudy.curvature.basis import Basis, empty_basis, random_rows
from optstudy.curvature.operators import Operator, check_end, check_operator
from optstudy.curvature.progress import Progress, last
from optstudy.curvature.reprs import short_repr

GRID_POINTS = 1024


@dataclass(frozen=True)
class Density:
    r"""A density of eigenvalues, smoothed by a Gaussian, with integral 1.

    ``spread`` is the standard error over the random vectors. ``change`` is the difference from the density with
    half as many Lanczos steps, :math:`\int |\phi_m - \phi_{m/2}|`, from 0 to 2; if it is large, use more steps.
    """

    grid: Tensor  # (points,) eigenvalues
    density: Tensor  # (points,)
    spread: Tensor  # (points,)
    change: float
    width: float  # standard deviation of the Gaussian
    nodes: Tensor  # (probes, steps) Ritz values; nan where an iteration ended early
    weights: Tensor  # (probes, steps); each row sums to 1
    products: int

    def __repr__(self) -> str:
        return short_repr(self, "grid", "density", "width", "change", "products")


def spectral_density(
    operator: Operator, probes: int = 10, steps: int = 60, width: float | None = None, seed: int = 0
) -> Density:
    r"""Estimate the density of eigenvalues :math:`\phi(t) = \frac1n \sum_i g_\sigma(t - \lambda_i)`.

    From a random unit vector :math:`v`, Lanczos gives Ritz values :math:`\theta_j` and weights :math:`\tau_j`, the
    squares of the first components of their vectors, such that :math:`\sum_j \tau_j f(\theta_j)` is Gauss quadrature
    for :math:`v^\top f(A) v`, whose mean over :math:`v` is :math:`\operatorname{tr} f(A) / n` (Lin, Saad and Yang,
    2016; Ghorbani, Krishnan and Xiao, 2019). Lanczos is fully reorthogonalised.

    Args:
        operator: :math:`A`.
        probes: Number of random vectors, at least 2.
        steps: Number of Lanczos steps for each, at least 2.
        width: :math:`\sigma`; by default a hundredth of the spectrum's width.
        seed: Seed of the random vectors.

    Raises:
        ValueError: If there are too few probes or steps, or ``width`` is too small for the grid.

    Example:
        >>> a = torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64))
        >>> result = spectral_density(Operator(lambda v: v @ a, 4, a.dtype, a.device, "diagonal"))
        >>> result
        Density(grid=(1024,) float64, density=(1024,) float64, width=0.01, change=..., products=20)
        >>> round(float(torch.trapezoid(result.density, result.grid)), 3)
        1.0
    """
    return last(iter_density(operator, probes, steps, width, seed))


def iter_density(
    operator: Operator, probes: int = 10, steps: int = 60, width: float | None = None, seed: int = 0
) -> Iterator[Progress[Density] | Density]:
    """Iterate `spectral_density`: yield the progress after each product, and at the end the density.

    The estimate is the density from the random vectors so far, from the second on.
    """
    check_operator(operator, "spectral_density")
    check_whole(probes=probes, steps=steps, seed=seed)
    if min(probes, steps) < 2:  # noqa: PLR2004  # one probe has no spread, and one step no half
        raise ValueError(f"probes is {probes} and steps is {steps}; give at least 2 of each")
    generator = torch.Generator().manual_seed(int(seed))
    sections: list[Tensor] = []
    done, total, estimate = 0, probes * min(steps, operator.dim), None
    for _ in range(probes):
        section = torch.empty(0, 0, dtype=torch.float64)
        for basis in _lanczos(operator, steps, generator):
            section, done = basis.projected, done + 1
            yield Progress(done, total, estimate)
        sections.append(section)
        if len(sections) > 1:
            estimate = _density(sections, steps, width)
    check_end(operator)
    assert estimate is not None
    yield estimate


def _density(sections: list[Tensor], steps: int, width: float | None) -> Density:
    """Return the density from the section of each random vector."""
    rules = [_quadrature(section) for section in sections]
    halves = [_quadrature(section[: steps // 2, : steps // 2]) for section in sections]
    ends = torch.cat([nodes for nodes, _ in rules])
    low, high = float(ends.min()), float(ends.max())
    sigma = width if width is not None else max((high - low) / 100, 1e-12 + 1e-9 * max(abs(low), abs(high)))
    finest = (high - low) / (GRID_POINTS / 2)
    if not sigma > 0 or sigma < finest:
        raise ValueError(
            f"width is {sigma}; the grid of {GRID_POINTS} points cannot resolve less than {finest:.3g}"
        )
    grid = torch.linspace(low - 4 * sigma, high + 4 * sigma, GRID_POINTS, dtype=torch.float64)
    curves = torch.stack([_smooth(rule, grid, sigma) for rule in rules])
    density = curves.mean(0)
    half_density = torch.stack([_smooth(rule, grid, sigma) for rule in halves]).mean(0)
    return Density(
        grid=grid,
        density=density,
        spread=curves.std(0) / math.sqrt(len(sections)),
        change=float(torch.trapezoid((density - half_density).abs(), grid)),
        width=sigma,
        nodes=torch.stack([_padded(nodes, steps) for nodes, _ in rules]),
        weights=torch.stack([_padded(weights, steps) for _, weights in rules]),
        products=sum(map(len, sections)),
    )


def _lanczos(operator: Operator, steps: int, generator: torch.Generator) -> Iterator[Basis]:
    basis, block = empty_basis(operator), random_rows(operator, 1, generator)
    for _ in range(min(steps, operator.dim)):
        larger = basis.extended(operator, block)
        if larger.size == basis.size:
            break  # the vector's Krylov space is exhausted, and the quadrature exact
        basis, block = larger, larger.images[-1:]
        yield basis


def _quadrature(projected: Tensor) -> tuple[Tensor, Tensor]:
    nodes, vectors = torch.linalg.eigh(projected)
    return nodes, vectors[0].square()


def _smooth(rule: tuple[Tensor, Tensor], grid: Tensor, sigma: float) -> Tensor:
    nodes, weights = rule
    kernels = torch.exp(-((grid - nodes.unsqueeze(1)) ** 2) / (2 * sigma**2)) / (
        sigma * math.sqrt(2 * math.pi)
    )
    return weights @ kernels


def _padded(values: Tensor, length: int) -> Tensor:
    return torch.cat([values, values.new_full((length - len(values),), math.nan)])
