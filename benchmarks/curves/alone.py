"""One row of `large`, in a process of its own: time, memory and certified error of one library on one net.

python -m curves.alone '{"net": "transformer", "library": "optstudy"}'    in benchmarks/; prints the result as JSON
"""

import dataclasses
import importlib
import inspect
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from curves.clock import Clock
from curves.nets import NETS, products_in_double
from curves.report import Images
from optstudy.curvature import hessian, spectral_density, top_eigenpairs, trace

KIBI = 1024


@dataclass(frozen=True)
class Task:
    """What to compute."""

    net: str
    library: str  # optstudy, density, trace, pyhessian, eigsh or eigenthings
    k: int = 2
    tolerance: float = 1e-4
    check: bool = True
    memory: int | None = None  # vectors that optstudy may keep
    steps: int | None = None  # of eigenthings


@dataclass(frozen=True)
class Row:
    """What it cost, and how far its values are off."""

    products: int  # the check's included
    checked: int  # of these, by the check
    wall: float
    cpu: float
    outside: float  # share of the wall time that is not products
    peak: int  # bytes above what was resident after one product
    values: tuple[float, ...] = ()
    residual: float | None = None  # largest ||H v - value v|| in float64, relative to the first value
    said: str = ""


@dataclass(frozen=True)
class Found:
    """What a library returned."""

    values: Sequence[float] = ()
    vectors: Tensor | None = None  # (k, n)
    checked: int = 0
    said: str = ""


Solve = Callable[[], Found]
Prepare = Callable[[Task, nn.Module, Images, Clock], tuple[Solve, Callable[[], object]]]  # and one product


def ours(task: Task, model: nn.Module, images: Images, clock: Clock) -> tuple[Solve, Callable[[], object]]:
    """`optstudy.curvature`: eigenpairs, density or trace."""
    operator = hessian(model, functional.cross_entropy, images)
    timed = clock.on(operator)
    options: dict[str, Any] = {} if task.check else {"probability": None}
    if task.memory is not None:
        options["memory"] = task.memory

    def pairs() -> Found:
        found = top_eigenpairs(timed, k=task.k, tolerance=task.tolerance, **options)
        checked = found.check.products if found.check else 0
        said = f"{found.dtype}".removeprefix("torch.")
        if found.check:
            said += f", p {found.check.probability:.1g}, {found.ratio.verdict}, {getattr(found.ratio, 'sign', '')}"
        return Found(
            found.values.tolist(),
            found.vectors,
            checked,
            said if found.converged else f"{said}, NOT CONVERGED",
        )

    def density() -> Found:
        found = spectral_density(timed)
        return Found(said=f"stated error {getattr(found, 'error', found.change):.2g}")

    def estimate() -> Found:
        found = trace(timed)
        return Found(said=f"{found.value:.6g} in [{found.low:.6g}, {found.high:.6g}]")

    start = torch.randn(1, operator.dim, generator=torch.Generator().manual_seed(1))
    solve = {"optstudy": pairs, "density": density, "trace": estimate}[task.library]
    return solve, lambda: operator.apply(start)


def pyhessian(
    task: Task, model: nn.Module, images: Images, clock: Clock
) -> tuple[Solve, Callable[[], object]]:
    """`pyhessian.hessian(...).eigenvalues` at its defaults."""
    module: Any = importlib.import_module("pyhessian.hessian")  # not the class that the package calls so
    original = module.hessian_vector_product
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # backward with create_graph warns of a reference cycle
        computer = module.hessian(model, functional.cross_entropy, data=images, cuda=False)

    def product(gradients: Any, parameters: Any, vector: Any) -> Any:
        began = time.perf_counter()
        image = original(gradients, parameters, vector)
        clock.taken.append((1, time.perf_counter() - began))
        return image

    def solve() -> Found:
        module.hessian_vector_product = product
        values, vectors = computer.eigenvalues(top_n=task.k)
        return Found(values, torch.stack([torch.cat([p.flatten() for p in one]) for one in vectors]))

    start = [torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) for p in computer.params]
    return solve, lambda: original(computer.gradsH, computer.params, start)


def eigsh(task: Task, model: nn.Module, images: Images, clock: Clock) -> tuple[Solve, Callable[[], object]]:
    """ARPACK on the products of curvlinops, which has no search for eigenvalues of its own."""
    import numpy as np
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator
    from scipy.sparse.linalg import eigsh as search

    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [images], check_deterministic=False
    ).to_scipy()
    size = operator.shape[0]

    def product(vector: Any) -> Any:
        began = time.perf_counter()
        image = operator.matvec(vector)
        clock.taken.append((1, time.perf_counter() - began))
        return image

    def solve() -> Found:
        start = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        linear = LinearOperator((size, size), matvec=product, dtype=np.float32)
        values, vectors = search(linear, k=task.k, tol=task.tolerance, ncv=max(20, 2 * task.k + 1), v0=start)
        order = np.argsort(-np.abs(values))
        return Found(values[order].tolist(), torch.from_numpy(vectors.T[order].copy()))

    return solve, lambda: operator.matvec(np.random.default_rng(1).standard_normal(size).astype(np.float32))


def eigenthings(
    task: Task, model: nn.Module, images: Images, clock: Clock
) -> tuple[Solve, Callable[[], object]]:
    """`hessian_eigenthings.lanczos`, by default with two steps for each value."""
    from hessian_eigenthings import HessianOperator, lanczos
    from hessian_eigenthings.loss_fns import supervised_loss

    operator = HessianOperator(model, [images], supervised_loss(functional.cross_entropy))
    original = operator.matvec

    def product(vector: Tensor) -> Tensor:
        began = time.perf_counter()
        image: Tensor = original(vector)
        clock.taken.append((1, time.perf_counter() - began))
        return image

    def solve() -> Found:
        operator.matvec = product  # type: ignore[method-assign,unused-ignore]
        found = lanczos(operator, k=task.k, max_iter=task.steps, seed=0)
        return Found(found.eigenvalues.tolist(), found.eigenvectors)

    start = torch.randn(operator.size, generator=torch.Generator().manual_seed(1))
    return solve, lambda: original(start)


LIBRARIES: dict[str, Prepare] = {
    "optstudy": ours,
    "density": ours,
    "trace": ours,
    "pyhessian": pyhessian,
    "eigsh": eigsh,
    "eigenthings": eigenthings,
}


def measure(task: Task) -> Row:
    """Compute a row; its time and memory are those after one product has been made."""
    torch.set_num_threads(1)
    model, images = NETS[task.net]()
    clock = Clock()
    solve, product = LIBRARIES[task.library](task, model, images, clock)
    product()
    with above() as peak:
        wall, cpu = time.perf_counter(), time.process_time()
        found = solve()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Row(
        products=clock.products,
        checked=found.checked,
        wall=wall,
        cpu=cpu,
        outside=1 - clock.seconds / wall,
        peak=peak[0],
        values=tuple(found.values),
        residual=None if found.vectors is None else largest_residual(task.net, found.values, found.vectors),
        said=found.said,
    )


@contextmanager
def above() -> Iterator[list[int]]:
    """Yield a list that afterwards holds the bytes by which the resident memory rose at most."""
    restart_peak()
    before, peak = resident(), [0]
    yield peak
    peak[0] = resident() - before


def restart_peak() -> None:
    """Forget the largest resident memory of this process so far, where the system can."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def resident() -> int:
    """Return the largest resident memory of this process since it was restarted, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(
            int(line.split()[1]) * KIBI
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM:")
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIBI)


def largest_residual(name: str, values: Sequence[float], vectors: Tensor) -> float:
    """Return the largest residual of some pairs in float64, relative to the first value."""
    product, _ = products_in_double(name)
    worst = 0.0
    for value, row in zip(values, vectors, strict=True):
        unit = row.double() / row.double().norm()
        worst = max(worst, float((product(unit) - value * unit).norm()))
    return worst / abs(values[0])


def has_memory() -> bool:
    """Whether this version can be told how many vectors to keep."""
    return "memory" in inspect.signature(top_eigenpairs).parameters


if __name__ == "__main__":
    # A fused attention has no second derivative.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        print(json.dumps(dataclasses.asdict(measure(Task(**json.loads(sys.argv[1]))))))
