"""Memory and time of a search: how many vectors it keeps and where, and what a product costs."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from optstudy.curvature.arguments import check_whole
from optstudy.curvature.operators import Operator, check_operator, product
from optstudy.curvature.reprs import short_repr
from optstudy.curvature.rows import random_row

MOST_BYTES, MOST_ROWS = 0.85e9, 128  # of the vectors, by default
FEWEST_ROWS = 18  # beside the pairs, by default: enough for most checks
LEAST_ROWS = 5  # beside the pairs: with fewer, a restart would keep nothing else
QUICK = 1.0  # seconds of a product after which another is no waste
GIGA = 1e9


@dataclass(frozen=True)
class Cost:
    """What a search needs: the time of one product, of which one of two pairs takes 20 to 60, and its memory."""

    product_seconds: float
    memory: int  # number of vectors that are kept
    bytes: int  # of all of them
    free_bytes: int | None  # on the device of the operator; None if it is not known

    def __repr__(self) -> str:
        return short_repr(self, "product_seconds", "memory", "bytes", "free_bytes")


def estimate_cost(operator: Operator, k: int = 2, memory: int | None = None) -> Cost:
    """Estimate what `top_eigenpairs` needs, by a product, and another if that was quick: a first call takes longer.

    Args:
        operator: The operator.
        k: Number of eigenpairs.
        memory: Number of vectors that may be kept; see `top_eigenpairs`.

    Raises:
        ValueError: If ``memory`` is too small.
        MemoryError: If the vectors do not fit.
    """
    check_operator(operator, "estimate_cost")
    memory = kept_vectors(operator, k, memory)
    row = torch.empty(1, operator.dim, dtype=operator.dtype, device=operator.device)
    random_row(row[0], torch.Generator().manual_seed(0))
    seconds = _seconds(operator, row)
    return Cost(
        min(seconds, _seconds(operator, row)) if seconds < QUICK else seconds,
        memory,
        min(memory, operator.dim + 2) * _row_bytes(operator),
        free_bytes(operator.device),
    )


def _seconds(operator: Operator, row: Tensor) -> float:
    """Return how long a product takes."""
    began = time.perf_counter()
    float(product(operator, row)[0, 0])  # waits for a GPU
    return time.perf_counter() - began


def kept_vectors(operator: Operator, k: int, memory: int | None) -> int:
    """Return the number of vectors that a search for ``k`` pairs keeps.

    Args:
        operator: The operator.
        k: Number of pairs.
        memory: What was asked for; by default as many as fit 0.85 GB, at most 128, and at least enough for most
            checks.

    Raises:
        ValueError: If it is too small.
        MemoryError: If they do not fit.
    """
    if memory is None:
        memory = max(k + FEWEST_ROWS, min(MOST_ROWS, int(MOST_BYTES / _row_bytes(operator))), 2 * k + 8)
    check_whole(memory=memory)
    least = k + LEAST_ROWS
    if memory < least:
        raise ValueError(f"memory is {memory}; give at least {least} vectors for k = {k}")
    used = min(memory, operator.dim + 2)
    free = free_bytes(torch.device("cpu")) if basis_device(operator, used).type == "cpu" else None
    if free is not None and used * _row_bytes(operator) > free:
        fitting = int(free / _row_bytes(operator))
        advice = f"memory={fitting} would fit" if fitting >= least else f"a search needs {least} of them"
        raise MemoryError(
            f"{memory} vectors of {operator.dim} entries take {used * _row_bytes(operator) / GIGA:.1f} GB, and"
            f" {free / GIGA:.1f} GB are free; {advice}"
        )
    return memory


def basis_device(operator: Operator, vectors: int) -> torch.device:
    """Return where vectors are kept: the device of the operator, or main memory where it has no room for them."""
    if operator.device.type == "cpu":
        return operator.device
    free = free_bytes(operator.device)
    fits = free is None or vectors * _row_bytes(operator) <= free / 2  # products need room, too
    return operator.device if fits else torch.device("cpu")


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that is free on a device; None if it is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [_available(), _group_limit()] if device.type == "cpu" else []
    return min((limit for limit in limits if limit is not None), default=None)


def _available() -> int | None:
    """Return the main memory that is available, on Linux."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


def _group_limit() -> int | None:
    """Return what the control group of a container leaves, on Linux."""
    group = Path("/sys/fs/cgroup")
    try:
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return max(0, int(most) - used) if most.isdigit() else None


def _row_bytes(operator: Operator) -> int:
    return operator.dim * operator.dtype.itemsize
