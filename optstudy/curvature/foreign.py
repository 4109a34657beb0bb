"""Products of other libraries as ours, and ours as theirs: plain functions, numpy and scipy."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from optstudy.curvature.containers import describe

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Rows = Callable[[Tensor], Tensor]  # (m, n) to (m, n), row by row


def scipy_operator(rows: Rows, dim: int, dtype: torch.dtype, device: torch.device) -> "LinearOperator":
    """Return products of rows as a symmetric operator of scipy."""
    from scipy.sparse.linalg import LinearOperator

    def matmat(columns: Any) -> Any:
        given = torch.tensor(np.asarray(columns).T, dtype=dtype, device=device)
        return rows(given).T.detach().cpu().numpy()

    def matvec(vector: Any) -> Any:
        return matmat(np.reshape(vector, (dim, 1)))[:, 0]

    numbers = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
    return LinearOperator(
        (dim, dim), matvec=matvec, rmatvec=matvec, matmat=matmat, rmatmat=matmat, dtype=numbers
    )


def rows_of(
    matvec: Callable[[Tensor], Any], dim: int, dtype: torch.dtype, device: torch.device, name: str
) -> Rows:
    """Return the products of rows, each by a function of one vector, whose results are checked."""

    def product(row: Tensor) -> Tensor:
        found = matvec(row.clone())  # which it may change
        result = torch.tensor(found, device=device) if isinstance(found, np.ndarray) else found
        if not isinstance(result, Tensor) or (result.shape, result.dtype) != ((dim,), dtype):
            numbers = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"the matvec of {name} returns {_described(found)}; it must return a {numbers} tensor or array of"
                f" shape ({dim},)"
            )
        if result.device != device:
            raise ValueError(
                f"the matvec of {name} returns a tensor on {result.device}; it must be on {device}"
            )
        return result.detach()

    return lambda rows: torch.stack([product(row) for row in rows])


def scipy_matvec(matrix: Any) -> tuple[Callable[[Tensor], Any], int, torch.dtype]:
    """Return the product of a matrix of numpy or scipy with one vector, the matrix's size, and its precision.

    Raises:
        TypeError: If it is no such matrix, or complex.
        ValueError: If it is not square.
    """
    shape, numbers = getattr(matrix, "shape", None), getattr(matrix, "dtype", None)
    if isinstance(matrix, Tensor) or shape is None or not hasattr(matrix, "__matmul__"):
        raise TypeError(
            f"the matrix is {describe(matrix)}; give an array of numpy, or a sparse matrix or LinearOperator of scipy"
        )
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:  # noqa: PLR2004  # rows and columns
        raise ValueError(f"the matrix has shape {tuple(shape)}; a symmetric one is square")
    if numbers is not None and np.dtype(numbers).kind == "c":
        raise TypeError(f"the matrix is complex ({numbers}); give a real symmetric one")
    dtype = torch.float32 if numbers == np.float32 else torch.float64
    return lambda vector: np.asarray(matrix @ vector.cpu().numpy()), int(shape[0]), dtype


def _described(value: Any) -> str:
    return (
        f"{value.dtype} numbers of shape {value.shape}" if isinstance(value, np.ndarray) else describe(value)
    )
