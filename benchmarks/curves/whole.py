"""The top two eigenvalues over the whole training set: time, and memory that does not grow with it."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from torch.nn import functional

from curves.clock import Clock
from curves.peers import arpack_over
from curves.report import Requirement, table
from curves.tracing import epoch
from curves.trained import THREADS, Trained, Weights
from optstudy.curvature import hessian, top_eigenpairs
from optstudy.records.plan import Split
from optstudy.training import sample_images
from optstudy.workloads.models import LeNet5
from optstudy.workloads.splits import load_split

TOLERANCE = 1e-3
FEW = 3  # products, after which memory no longer grows
FLAT = 1.1  # resident memory of the largest sample, its images left out, over that of the smallest
IMAGE = 32 * 32  # bytes
MEBI = 2**20


@dataclass(frozen=True)
class Work:
    """The task of a separate process."""

    weights: Weights
    count: int  # images
    most: int = 2000  # products
    peer: bool = False  # curvlinops and ARPACK instead


@dataclass(frozen=True)
class Done:
    """Its result."""

    values: tuple[float, float]
    residuals: tuple[float, ...]
    converged: bool
    products: int  # without the check's
    check: int
    seconds: float
    check_seconds: float
    resident: int  # maximum, in bytes


def work(task: Work) -> Done:
    """Compute the top two eigenpairs of the Hessian on some images."""
    torch.set_num_threads(THREADS)
    model = LeNet5()
    model.load_state_dict(task.weights)
    model.eval()
    images = sample_images(load_split("mnist", Split("final"))[0], task.count, seed=0, device="cpu")
    began, clock = time.perf_counter(), Clock()
    if task.peer:
        answer = arpack_over(model, images, TOLERANCE, seed=0)
        seconds = time.perf_counter() - began
        values = answer.first, answer.second
        return Done(values, (), True, answer.products, 0, seconds, 0.0, resident())
    pairs = top_eigenpairs(
        clock.on(hessian(model, functional.cross_entropy, images)),
        tolerance=TOLERANCE,
        max_products=task.most,
        probability=None if task.most <= FEW else 0.01,
    )
    seconds, check = time.perf_counter() - began, pairs.check.products if pairs.check else 0
    return Done(
        (float(pairs.values[0]), float(pairs.values[1])),
        tuple(pairs.residuals.tolist()),
        pairs.converged,
        pairs.products - check,
        check,
        seconds,
        clock.last(check),
        resident(),
    )


def resident() -> int:
    """Return the largest resident memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def alone(task: Work, limit: float | None = None) -> Done | None:
    """Run a task in a new process, to measure its memory; None if it takes longer than the limit."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        future = pool.submit(work, task)
        try:
            return future.result(limit)
        except TimeoutError:
            for process in multiprocessing.active_children():
                process.terminate()
            return None


def whole(run: Trained, counts: Sequence[int], steps: int, peer_limit: float | None) -> list[Requirement]:
    """Print time and memory on samples of several sizes, the last of them solved in full."""
    weights = run.state.model
    training = epoch(run, steps, []) * counts[-1] / (100 * steps)  # of an epoch over as many images
    few = [unlimited(alone(Work(weights, count, most=FEW))) for count in counts[:-1]]
    full = unlimited(alone(Work(weights, counts[-1])))
    rows = [
        [f"{count:,} images, memory alone", "", "", *cells(one, training)[2:]]
        for count, one in zip(counts[:-1], few, strict=True)
    ]
    rows.append([f"{counts[-1]:,} images, top two", *cells(full, training)])
    if peer_limit is not None:
        peer = alone(Work(weights, counts[-1], peer=True), peer_limit)
        name = f"{counts[-1]:,} images, curvlinops, ARPACK"
        rows.append(
            [name, *cells(peer, training)] if peer else [name, *["-"] * 5, f">{peer_limit:.0f}", "", ""]
        )
    table(f"whole: {run.name}", COLUMNS, rows)
    print(f"an epoch of training over {counts[-1]:,} images: {training:.2f} s")
    worst = max(full.residuals) / abs(full.values[0])
    own = [one.resident - count * IMAGE for count, one in zip(counts[:-1], few, strict=True)]
    grown = (full.resident - counts[-1] * IMAGE) / own[0]
    return [
        Requirement(
            f"whole: converged, residual at tolerance {TOLERANCE:g}",
            f"{worst:.1e}",
            full.converged and worst <= TOLERANCE,
            accuracy=True,
        ),
        Requirement(
            f"whole: memory grows at most {FLAT:g} times, images left out", f"{grown:.2f}", grown <= FLAT
        ),
    ]


COLUMNS = ("lambda_1", "lambda_2", "products", "check", "s", "s of check", "x epoch", "MiB")


def cells(one: Done, training: float) -> list[str]:
    """Return the cells of a result."""
    return [
        *(f"{value:.5g}" for value in one.values),
        str(one.products),
        str(one.check or ""),
        f"{one.seconds:.1f}",
        f"{one.check_seconds:.1f}" if one.check else "",
        f"{one.seconds / training:.1f}",
        f"{one.resident / MEBI:.0f}",
    ]


def unlimited(done: Done | None) -> Done:
    """Return the result of a task without a time limit."""
    assert done is not None
    return done
