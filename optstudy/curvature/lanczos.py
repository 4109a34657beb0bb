"""Lanczos iteration in one block of rows: reorthogonalised in place, restarted thickly, beside locked rows."""

from collections.abc import Generator

import torch
from torch import Tensor

from optstudy.curvature.basis import orthonormalise_
from optstudy.curvature.cost import basis_device
from optstudy.curvature.operators import Operator, product
from optstudy.curvature.ritz import Ritz, argsort_by, negligible
from optstudy.curvature.rows import (
    combine_,
    combined,
    components,
    finite_norm,
    norm,
    random_row,
    subtract_,
)

MAX_PASSES = 4  # of orthogonalisation
MAX_DRAWS = 20  # of a random row
CANCELLED = 0.5  # a pass that leaves less than this share of the length is repeated
BESIDES = 2  # rows beside the section: the next one, and the product that becomes the one after
KEPT = 0.4  # share of the rows, beyond the pairs, that a restart keeps


class Lanczos:
    r"""A Lanczos iteration from a random row, in the orthogonal complement of locked rows.

    With the locked rows :math:`V` and the rows :math:`Q` of the iteration, :math:`A Q = V B + Q T + \beta q e^\top`,
    where :math:`q` is the next row. No images are kept: the residual of a Ritz vector is parallel to :math:`q`, but for
    the residuals of the locked rows.

    The part of a product that symmetry predicts is subtracted first, and what remains is orthogonalised against all
    rows, again where that cancels more than half of it (Daniel, Gragg, Kaufman and Stewart, 1976). What that pass finds
    along earlier rows would be zero for a symmetric matrix; it is the `asymmetry`.
    """

    def __init__(
        self, operator: Operator, memory: int, generator: torch.Generator, locked: Ritz | None = None
    ) -> None:
        known = 0 if locked is None else len(locked.values)
        capacity = min(memory, operator.dim + BESIDES)
        self.operator, self.generator = operator, generator
        device = basis_device(operator, capacity)
        self.rows = torch.empty(capacity, operator.dim, dtype=operator.dtype, device=device)
        self.locked = self.size = known
        self.section = torch.zeros(capacity, capacity, dtype=torch.float64)
        if locked is not None:
            self.rows[:known] = locked.vectors
            self.section[:known, :known] = locked.values.diag()
        self.coupling = 0.0  # beta
        self.asymmetry = 0.0  # largest |h_ij - h_ji| so far
        self.scale = 0.0  # largest norm of a product so far
        self.exhausted = not self._begin()

    @property
    def full(self) -> bool:
        """Whether there is no room for another product."""
        return self.size + BESIDES > len(self.rows)

    @property
    def projected(self) -> Tensor:
        """The section of the operator in the locked rows and those of the iteration, float64."""
        return self.section[: self.size, : self.size]

    @property
    def krylov(self) -> Tensor:
        """The section in the rows of the iteration alone: :math:`T`."""
        return self.section[self.locked : self.size, self.locked : self.size]

    @property
    def magnitude(self) -> float:
        """Largest magnitude of a Ritz value."""
        return float(torch.linalg.eigvalsh(self.projected).abs().max())

    def advance(self) -> None:
        """Multiply by the operator once.

        Raises:
            FloatingPointError: If the product is not finite.
        """
        size, rows = self.size, self.rows
        last, image = rows[size], rows[size + 1]
        image.copy_(product(self.operator, last.unsqueeze(0).to(self.operator.device))[0])
        self.scale = max(self.scale, finite_norm(image, self.operator.name))
        predicted = self.section[size, :size].clone()
        if bool(predicted.any()):
            first = int(predicted.nonzero()[0])
            subtract_(image, predicted[first:], rows[first:size])
        own = components(last.unsqueeze(0), image)
        subtract_(image, own, last.unsqueeze(0))
        found = torch.cat([predicted, own])
        self.asymmetry = max(self.asymmetry, self._orthogonalise(image, found))
        self.section[size, : size + 1] = self.section[: size + 1, size] = found
        self.size += 1
        self._append(image, size)

    def _orthogonalise(self, image: Tensor, found: Tensor) -> float:
        """Orthogonalise a product against all rows; add what is found along them, and return the asymmetry."""
        rows, asymmetry = self.rows[: len(found)], 0.0
        length = norm(image)
        for index in range(MAX_PASSES):
            parts = components(rows, image)
            subtract_(image, parts, rows)
            before, length = length, norm(image)
            if not index:
                symmetric = parts[self.locked : -1]
                asymmetry = float(symmetric.abs().max()) if len(symmetric) else 0.0
                parts[self.locked : -1] /= 2  # the mean of h_ij, which was predicted, and h_ji
            found += parts
            if length >= CANCELLED * before:
                break
        return asymmetry

    def _append(self, image: Tensor, size: int) -> None:
        """Make the next row of what is left of a product."""
        length = norm(image)
        self.exhausted = self.size >= self.operator.dim or not length > negligible(image.dtype) * self.scale
        self.coupling = 0.0 if self.exhausted else length
        if not self.exhausted:
            image /= length
            self.section[self.size, size] = self.section[size, self.size] = length

    def _begin(self) -> bool:
        """Draw the next row at random, orthogonal to all; whether there is such a direction."""
        self.section[self.size, : self.size] = 0
        # In a complement of few dimensions, a random row may have too small a part.
        return self.size < self.operator.dim and any(self._draw() for _ in range(MAX_DRAWS))

    def _draw(self) -> bool:
        known, row = self.rows[: self.size], self.rows[self.size]
        random_row(row, self.generator)
        return orthonormalise_(row, known)

    def begin_again(self) -> bool:
        """Go on from a random row where the Krylov space is exhausted; whether there is one."""
        self.coupling = 0.0
        self.exhausted = not self._begin()
        return not self.exhausted

    def restart(self, order: str, k: int) -> None:
        """Keep the first Ritz vectors only (Wu and Simon, 2000); locked rows are kept as part of them."""
        keep = k + max(1, int(KEPT * (len(self.rows) - BESIDES - k)))
        values, mix = torch.linalg.eigh(self.projected)
        indices = argsort_by(values, order)[:keep]
        combine_(self.rows[: self.size], mix[:, indices].T.contiguous())
        self.rows[len(indices)] = self.rows[self.size]
        arrow = self.coupling * mix[-1, indices]
        self.section.zero_()
        self.size = len(indices)
        self.section[: self.size, : self.size] = values[indices].diag()
        self.section[self.size, : self.size] = self.section[: self.size, self.size] = arrow
        self.locked = 0

    def estimates(self, order: str, k: int) -> tuple[Tensor, Tensor, float]:
        """Return the first ``k`` Ritz values by ``order``, estimates of residuals, and the largest magnitude of all.

        The residuals are without those of locked rows.
        """
        values, mix = torch.linalg.eigh(self.projected)
        indices = argsort_by(values, order)[:k]
        residuals = self.coupling * mix[-1, indices].abs()
        return values[indices], residuals, float(values.abs().max())

    def ritz(self, order: str, k: int) -> Ritz:
        """Return the first ``k`` Ritz pairs; their images are those without the residuals of locked rows."""
        values, mix = torch.linalg.eigh(self.projected)
        indices = argsort_by(values, order)[:k]
        vectors = combined(mix[:, indices].T, self.rows[: self.size])
        images = values[indices].to(vectors).unsqueeze(1) * vectors
        if self.coupling:
            for image, share in zip(images, mix[-1, indices].tolist(), strict=True):
                image.add_(self.rows[self.size], alpha=self.coupling * share)
        return Ritz(values[indices], vectors, images)


def lanczos_steps(
    lanczos: Lanczos, order: str, k: int, tolerance: float, limit: int
) -> Generator[tuple[int, Tensor], None, int]:
    """Go on until the first ``k`` Ritz pairs have converged, or ``limit`` products are spent; return the products.

    Yields:
        After each product, 1 and the values so far.
    """
    count = min(k, lanczos.operator.dim)
    for spent in range(limit):
        if lanczos.full:
            lanczos.restart(order, count)
        if lanczos.exhausted and not lanczos.begin_again():
            return spent
        lanczos.advance()
        values, residuals, magnitude = lanczos.estimates(order, count)
        yield 1, values
        if len(values) == count and bool((residuals <= tolerance * magnitude).all()):
            return spent + 1
    return max(limit, 0)
