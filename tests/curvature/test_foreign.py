"""Operators to and from scipy, numpy, curvlinops and plain functions."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator, eigsh
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import Operator, hessian, top_eigenpairs, trace

X, Y = oracles.examples()


@pytest.mark.parametrize("sizes", [(13,), (6, 7)], ids=["one", "several"])
def test_scipys_eigsh_finds_the_values_of_top_eigenpairs(sizes: tuple[int, ...]) -> None:
    data = oracles.chunks((X, Y), *sizes)
    operator = hessian(oracles.net(3, 5, 4), functional.cross_entropy, data, dtype=torch.float64)

    values, vectors = eigsh(operator.to_scipy(), k=2, which="LM")

    ours = top_eigenpairs(operator, k=2)
    order = np.argsort(-np.abs(values))
    assert ours.values.tolist() == pytest.approx(values[order].tolist(), abs=1e-8)
    overlap = torch.as_tensor(vectors.T[order].copy()) @ ours.vectors.T
    assert torch.allclose(overlap.abs(), torch.eye(2, dtype=torch.float64), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_in_scipy_are_ours_in_the_same_precision(dtype: torch.dtype) -> None:
    a = oracles.symmetric(oracles.bulk(3.0, dim=12))
    theirs = a.operator(dtype).to_scipy()
    block = np.random.default_rng(0).standard_normal((12, 5))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12

    assert isinstance(theirs, LinearOperator)
    assert list(theirs.shape) == [12, 12]
    assert theirs.dtype == np.dtype(str(dtype).removeprefix("torch."))
    truth = a.matrix.numpy()
    assert np.allclose(theirs @ block, truth @ block, atol=tolerance)
    assert np.allclose(theirs.H @ block[:, 0], truth @ block[:, 0], atol=tolerance)
    assert list((theirs @ block[:, :1]).shape) == [12, 1]
    assert (theirs @ block).dtype == (theirs @ block[:, 0].astype(np.float32)).dtype == theirs.dtype


def matrix(kind: str) -> Any:
    generator = np.random.default_rng(0)
    dense = np.diag(np.linspace(-2, 3, 40)) + 0.1 * generator.standard_normal((40, 40)) * (
        generator.random((40, 40)) < 0.1
    )
    dense = dense + dense.T
    forms: dict[str, Callable[[Any], Any]] = {
        "numpy": np.asarray,
        "sparse array": sparse.csr_array,
        "sparse matrix": sparse.csc_matrix,
        "operator": aslinearoperator,
        "operator without dtype": lambda a: LinearOperator(a.shape, matvec=lambda v: a @ v),
    }
    return dense, forms[kind](dense)


@pytest.mark.parametrize(
    "kind", ["numpy", "sparse array", "sparse matrix", "operator", "operator without dtype"]
)
def test_top_eigenpairs_of_matrices_of_scipy_are_their_eigenvalues(kind: str) -> None:
    dense, theirs = matrix(kind)
    truth = oracles.by_magnitude(torch.as_tensor(dense))

    pairs = top_eigenpairs(Operator.from_scipy(theirs), k=3, tolerance=1e-8)

    assert pairs.values.tolist() == pytest.approx(truth[:3].tolist(), abs=1e-8)


def test_the_precision_is_that_of_the_matrix() -> None:
    for given, expected in (
        (np.float32, torch.float32),
        (np.float64, torch.float64),
        (np.int64, torch.float64),
    ):
        operator = Operator.from_scipy(sparse.csr_array(np.eye(3, dtype=given)))

        assert (operator @ torch.ones(3, dtype=operator.dtype)).dtype == operator.dtype == expected


def test_there_and_back_again_is_the_same_operator() -> None:
    a = oracles.symmetric(oracles.bulk(3.0, dim=12))

    assert oracles.near(oracles.as_matrix(Operator.from_scipy(a.operator().to_scipy())), a.matrix)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # of what it imports
def test_products_of_curvlinops_are_taken() -> None:
    from curvlinops import HessianLinearOperator

    model, loss = oracles.net(3, 5, 4).double(), nn.CrossEntropyLoss()
    theirs = HessianLinearOperator(model, loss, list(model.parameters()), [(X.double(), Y)])

    pairs = top_eigenpairs(Operator.from_matvec(lambda v: theirs @ v, theirs.shape[0], name="theirs"), k=2)

    ours = top_eigenpairs(model, loss, (X.double(), Y), k=2)
    assert pairs.values.tolist() == pytest.approx(ours.values.tolist(), abs=1e-8)


def test_a_function_may_return_arrays_read_only_and_change_its_vector() -> None:
    def product(vector: Tensor) -> Any:
        result = 2 * vector.numpy()
        result.flags.writeable = False
        vector.zero_()
        return result

    operator, rows = Operator.from_matvec(product, 3), torch.ones(2, 3, dtype=torch.float64)

    assert torch.equal(operator.apply(rows), 2 * rows)
    assert torch.equal(rows, torch.ones(2, 3, dtype=torch.float64))
    assert trace(operator).value == pytest.approx(6)


def test_results_are_cut_from_the_graph_of_their_function() -> None:
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)

    assert not (Operator.from_matvec(lambda v: weight * v, 3) @ torch.ones(3).double()).requires_grad


RESULTS: dict[str, tuple[Any, str]] = {
    "shape": (torch.ones(4, dtype=torch.float64), "returns a float64 tensor of shape (4,); it must return"),
    "column": (torch.ones(3, 1, dtype=torch.float64), "a float64 tensor of shape (3, 1); it must return"),
    "precision": (torch.ones(3), "returns a float32 tensor of shape (3,); it must return a float64 tensor"),
    "array": (np.ones(4), "returns float64 numbers of shape (4,); it must return"),
    "complex": (np.ones(3, dtype=complex), "returns complex128 numbers of shape (3,)"),
    "nothing": (None, "returns None; it must return a float64 tensor or array of shape (3,)"),
}


@pytest.mark.parametrize(("result", "message"), RESULTS.values(), ids=RESULTS.keys())
def test_another_result_than_a_vector_is_refused(result: Any, message: str) -> None:
    operator = Operator.from_matvec(lambda _: result, 3, name="mine")

    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        operator @ torch.ones(3, dtype=torch.float64)

    assert str(caught.value).startswith("the matvec of mine ")


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no function": (lambda: Operator.from_matvec(np.eye(3), 3), "matvec is a ndarray; give a function"),  # type: ignore[arg-type]
    "no number": (lambda: Operator.from_matvec(abs, 3.0), "dim is 3.0; give a whole number"),  # type: ignore[arg-type]
    "empty": (lambda: Operator.from_matvec(abs, 0), "dim is 0; give at least 1"),
    "half": (lambda: Operator.from_matvec(abs, 3, dtype=torch.half), "curvature requires float32 or float64"),
    "rectangle": (lambda: Operator.from_scipy(np.ones((3, 4))), "the matrix has shape (3, 4)"),
    "vector": (lambda: Operator.from_scipy(np.ones(3)), "the matrix has shape (3,)"),
    "complex numbers": (lambda: Operator.from_scipy(1j * np.eye(3)), "the matrix is complex (complex128)"),
    "tensor": (lambda: Operator.from_scipy(torch.eye(3)), "the matrix is a float32 tensor of shape (3, 3)"),
    "model": (lambda: Operator.from_scipy(nn.Linear(3, 4)), "the matrix is a Linear; give an array of numpy"),
}


@pytest.mark.parametrize(("act", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_symmetric_matrix_is_refused(act: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        act()
