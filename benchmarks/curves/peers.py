"""The top two eigenvalues of a Hessian by each library, and the number of products."""

import copy
import importlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyhessian
import torch
from curvlinops import HessianLinearOperator
from hessian_eigenthings import HessianOperator, lanczos
from hessian_eigenthings.loss_fns import supervised_loss
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn import functional

from curves.report import Images
from optstudy.curvature import top_eigenpairs

EXACT = 1e-8  # residual of the reference values; its square is about their error, which float64 resolves down to 1e-6


@dataclass(frozen=True)
class Answer:
    """Two eigenvalues, in the order in which a library returned them, and their cost."""

    first: float
    second: float
    products: int
    check: int = 0  # products of the search for missed values, not among `products`

    @property
    def ratio(self) -> float:
        """Ratio of the first to the second, by magnitude."""
        return abs(self.first / self.second) if self.second else float("inf")

    def errors(self, true: "Answer") -> tuple[float, float, float]:
        """Return the relative errors of both values and of their ratio."""
        pairs = ((self.first, true.first), (self.second, true.second), (self.ratio, true.ratio))
        first, second, ratio = (abs(found / right - 1) for found, right in pairs)
        return first, second, ratio


Solver = Callable[[nn.Module, Images, int], Answer]  # model in eval mode, images, seed


def ours(tolerance: float) -> Solver:
    """`optstudy.curvature.top_eigenpairs`."""

    def solve(model: nn.Module, images: Images, seed: int) -> Answer:
        found = top_eigenpairs(model, functional.cross_entropy, images, tolerance=tolerance, seed=seed)
        assert found.check is not None
        first, second = found.values.tolist()
        return Answer(first, second, found.products - found.check.products, found.check.products)

    return solve


def power_iteration(**options: Any) -> Solver:
    """`pyhessian.hessian(...).eigenvalues`, as its README calls it."""

    def solve(model: nn.Module, images: Images, seed: int) -> Answer:
        torch.manual_seed(seed)
        with counted_products() as products, warnings.catch_warnings():
            # backward with create_graph warns of the reference cycle, which zero_grad breaks.
            warnings.simplefilter("ignore")
            (first, second), _ = pyhessian.hessian(
                model, functional.cross_entropy, data=images, cuda=False
            ).eigenvalues(top_n=2, **options)
            model.zero_grad()
        return Answer(first, second, len(products))

    return solve


@contextmanager
def counted_products() -> Iterator[list[None]]:
    """Count PyHessian's products: the yielded list gets an item for each."""
    module: Any = importlib.import_module("pyhessian.hessian")
    original = module.hessian_vector_product
    products: list[None] = []

    def counting(*arguments: Any) -> Any:
        products.append(None)
        return original(*arguments)

    module.hessian_vector_product = counting
    try:
        yield products
    finally:
        module.hessian_vector_product = original


def arpack(tolerance: float) -> Solver:
    """`curvlinops.HessianLinearOperator` in `scipy.sparse.linalg.eigsh`."""

    def solve(model: nn.Module, images: Images, seed: int) -> Answer:
        return arpack_over(model, [images], tolerance, seed)

    return solve


def arpack_over(model: nn.Module, batches: Any, tolerance: float, seed: int) -> Answer:
    """Run ARPACK on the products of curvlinops over batches."""
    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), batches, check_deterministic=False
    ).to_scipy()
    products: list[None] = []

    def product(vector: "np.ndarray[Any, Any]") -> Any:
        products.append(None)
        return operator.matvec(vector)

    size = operator.shape[0]
    start = np.random.default_rng(seed).standard_normal(size)
    values = eigsh(
        LinearOperator((size, size), matvec=product, dtype=np.float64),
        k=2,
        tol=tolerance,
        v0=start,
        return_eigenvectors=False,
    )
    second, first = sorted(values.tolist(), key=abs)
    return Answer(first, second, len(products))


def eigenthings(steps: int | None) -> Solver:
    """`hessian_eigenthings.lanczos`; its default is four steps for two values."""

    def solve(model: nn.Module, images: Images, seed: int) -> Answer:
        operator = HessianOperator(model, [images], supervised_loss(functional.cross_entropy))
        found = lanczos(operator, k=2, max_iter=steps, seed=seed)
        first, second = found.eigenvalues.tolist()
        return Answer(first, second, found.iterations)

    return solve


@dataclass(frozen=True)
class Truth:
    """Reference values in float64."""

    answer: Answer
    disagreement: float  # of two independent programs, relative to the second value


def truth(model: nn.Module, images: Images) -> Answer:
    """Compute reference values in float64 at a tight tolerance."""
    pairs = top_eigenpairs(
        model, functional.cross_entropy, images, tolerance=EXACT, max_products=400, dtype=torch.float64
    )
    first, second = pairs.values.tolist()
    return Answer(first, second, pairs.products)


def confirmed(model: nn.Module, images: Images) -> Truth:
    """Compute reference values also by ARPACK, on the products of curvlinops."""
    answer = truth(model, images)
    other = arpack(1e-12)(copy.deepcopy(model).double(), (images[0].double(), images[1]), 0)
    apart = max(abs(answer.first - other.first), abs(answer.second - other.second)) / abs(answer.second)
    return Truth(answer, apart)


@dataclass(frozen=True)
class Timed:
    """The repeats of a row."""

    answers: list[Answer]
    seconds: float  # minimum over the repeats

    def worst(self, true: Answer) -> tuple[float, float, float]:
        """Return the largest errors over the repeats, each from a different random start."""
        first, second, ratio = (
            max(some) for some in zip(*(a.errors(true) for a in self.answers), strict=True)
        )
        return first, second, ratio

    @property
    def products(self) -> float:
        """Mean over the repeats."""
        return sum(answer.products for answer in self.answers) / len(self.answers)

    @property
    def check(self) -> float:
        """Mean over the repeats."""
        return sum(answer.check for answer in self.answers) / len(self.answers)


def in_repeats(
    rows: Mapping[str, tuple[Solver, nn.Module]], images: Images, repeats: int
) -> dict[str, Timed]:
    """Solve with all rows alternately, with one seed per repeat, after one that warms up."""
    answers: dict[str, list[Answer]] = {row: [] for row in rows}
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    for turn in range(repeats + 1):
        for row, (solver, model) in rows.items():
            began = time.perf_counter()
            answer = solver(model, images, turn)
            taken = time.perf_counter() - began
            if turn:
                answers[row].append(answer)
                seconds[row].append(taken)
    return {row: Timed(answers[row], min(seconds[row])) for row in rows}


def moved(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Load weights into a model, and return it."""
    model.load_state_dict(weights)
    return model
