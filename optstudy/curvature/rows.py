"""Arithmetic of long rows: inner products in chunks, whose sums are added in float64."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from optstudy.curvature.ieee import ieee_float32

# Sums of so many products are accurate to 1e-7 in float32; at 10 million, a unit row's square is off by 7e-4.
CHUNK = 32_768
SAFE_NORMS = (1e-12, 1e12)  # of a chunk: beyond them, squares of float32 may underflow or overflow


def chunks(size: int, length: int = CHUNK) -> Iterator[slice]:
    """Yield slices of at most ``length`` entries that cover a row."""
    return (slice(start, start + length) for start in range(0, size, length))


def inner_products(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner products of rows ``(m, n)`` and ``(b, n)``: ``(m, b)`` in float64 on the CPU.

    They are multiplied in the precision of ``second``.
    """
    total = torch.zeros(len(first), len(second), dtype=torch.float64, device=first.device)
    if total.numel():
        with ieee_float32(first.device):
            for part in chunks(first.shape[1]):
                total += first[:, part].to(second.dtype) @ second[:, part].T
    return total.cpu()


def components(rows: Tensor, row: Tensor) -> Tensor:
    """Return the inner products of rows ``(m, n)`` with a row ``(n,)``: ``(m,)`` in float64 on the CPU."""
    return inner_products(rows, row.unsqueeze(0))[:, 0]


def dot(first: Tensor, second: Tensor) -> float:
    """Return the inner product of two rows ``(n,)``, multiplied in float64."""
    parts = (first[part].double() @ second[part].double() for part in chunks(len(first)))
    return math.fsum(float(part) for part in parts)


def subtract_(row: Tensor, coefficients: Tensor, rows: Tensor) -> None:
    """Subtract a combination of rows ``(m, n)`` from a row ``(n,)`` in place."""
    if len(rows):
        weights = coefficients.to(row.device, row.dtype)
        with ieee_float32(rows.device):
            for part in chunks(len(row)):
                row[part].addmv_(rows[:, part].to(row.dtype).T, weights, alpha=-1)


def combined(mix: Tensor, rows: Tensor) -> Tensor:
    """Return combinations of rows: ``mix @ rows``, for a mix ``(k, m)`` in float64."""
    with ieee_float32(rows.device):
        found: Tensor = mix.to(rows.device, rows.dtype) @ rows
    return found


def combine_(rows: Tensor, mix: Tensor) -> None:
    """Replace the first ``k`` of rows ``(m, n)`` by ``mix @ rows``, for a mix ``(k, m)`` in float64."""
    weights = mix.to(rows.device, rows.dtype)
    with ieee_float32(rows.device):
        for part in chunks(rows.shape[1]):
            rows[: len(mix), part] = weights @ rows[:, part]


def norm(row: Tensor) -> float:
    """Return the norm of a row ``(n,)``, whatever its scale."""
    whole = len(row) // CHUNK * CHUNK
    parts = [row[:whole].view(-1, CHUNK).norm(dim=1), row[whole:].norm().reshape(1)]
    sizes = torch.cat(parts).cpu().double()
    largest = float(sizes.max())
    if row.dtype == torch.float64 or SAFE_NORMS[0] < largest < SAFE_NORMS[1]:
        found = float(sizes.norm())
        if 0 < found < math.inf:
            return found
    scale = float(torch.linalg.vector_norm(row, math.inf)) if len(row) else 0.0
    if not 0 < scale < math.inf:
        return scale
    return scale * math.sqrt(
        sum(float((row[part].double() / scale).square().sum()) for part in chunks(len(row)))
    )


def finite_norm(image: Tensor, name: str) -> float:
    """Return the norm of a product with an operator of this name.

    Raises:
        FloatingPointError: If it is not finite.
    """
    found = norm(image)
    if not math.isfinite(found):
        raise FloatingPointError(
            f"a product with the {name} is not finite; has the model diverged, or are its inputs not finite?"
        )
    return found


def norms(rows: Tensor) -> Tensor:
    """Return the norms of rows ``(m, n)``, ``(m,)`` float64 on the CPU."""
    return torch.tensor([norm(row) for row in rows], dtype=torch.float64)


def block_norm(rows: Tensor) -> float:
    """Return the 2-norm of a few rows ``(k, n)``: the root of the first eigenvalue of their Gram matrix.

    This is as accurate as a singular value decomposition, which would take a fifth of the time of an operator product.
    """
    largest = float(norms(rows).max()) if len(rows) else 0.0
    if not largest or not math.isfinite(largest):
        return largest
    scale = 1.0 if SAFE_NORMS[0] < largest < SAFE_NORMS[1] else largest  # so that squares do not underflow
    scaled = rows if scale == 1 else rows / scale
    return scale * math.sqrt(max(0.0, float(torch.linalg.eigvalsh(inner_products(scaled, scaled))[-1])))


def random_row(row: Tensor, generator: torch.Generator) -> None:
    """Fill a row with a uniformly random direction, identical on every device."""
    for part in chunks(len(row), 32 * CHUNK):
        row[part] = torch.randn(len(row[part]), generator=generator, dtype=row.dtype).to(row.device)
