"""Cost and accuracy of curvature: optstudy beside PyHessian, curvlinops and hessian-eigenthings.

    python benchmarks/curvature.py                  all parts, about an hour, mostly to train as long as the paper
    python benchmarks/curvature.py --epochs 20      the same before training has converged, about ten minutes
    python benchmarks/curvature.py --quick          the same with little training and few steps, a minute or two
    python benchmarks/curvature.py --part trace     one part; may be given several times

oneshot   the top two eigenvalues on 100 images of MNIST, by every library
trace     the same at each of a run's last steps
training  what tracing every step costs while training
whole     the top two over all 60,000 images
plane     the loss at 41 by 41 points

LeNet-5, trained by SGD, by Adam, and by full-batch Adam until it fits the 100 images. All rows use two threads and are
timed alternately; the minimum of a row's times counts, since other programs can only slow it down. The reference values
are computed in float64 by two programs. The exit status is 1 only if a requirement of accuracy is not met.

The other libraries: pip install --group peers
"""

import argparse
import functools
import importlib.metadata
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from curves.oneshot import oneshot
from curves.plane import plane
from curves.report import Requirement, show
from curves.tracing import trace, training
from curves.trained import THREADS, converge, images_for_curvature, train
from curves.whole import whole
from training import processor

PARTS = ("oneshot", "trace", "training", "whole", "plane")
PACKAGES = ("torch", "pyhessian", "curvlinops-for-pytorch", "hessian-eigenthings", "scipy")


@dataclass(frozen=True)
class Size:
    """Size of the benchmark."""

    images: int  # training images; 0 for all
    loss: float  # training loss of the converged model
    last: int  # steps tracked
    repeats: int
    counts: tuple[int, ...]  # images of `whole`
    points: int


FULL = Size(0, 1e-6, 100, 2, (6_000, 30_000, 60_000), 41)
QUICK = Size(10_000, 1e-4, 20, 1, (600, 1_500, 3_000), 11)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="part to run (default: all)")
    parser.add_argument("--epochs", type=int, help="training epochs (default: 150; 1 with --quick)")
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="folder of trained states: those present are used, others are added",
    )
    parser.add_argument("--quick", action="store_true", help="little training and few steps")
    parser.add_argument(
        "--arpack-seconds",
        type=float,
        metavar="S",
        help="time limit of ARPACK on the whole training set (default: not run)",
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print, and return the exit status."""
    arguments = parse_arguments()
    size, epochs = (QUICK, arguments.epochs or 1) if arguments.quick else (FULL, arguments.epochs or 150)
    torch.set_num_threads(THREADS)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {versions}")
    if arguments.models:
        arguments.models.mkdir(parents=True, exist_ok=True)
    with nullcontext(arguments.models) if arguments.models else tempfile.TemporaryDirectory() as folder:
        images = images_for_curvature()
        sgd, adam = (train(name, epochs, size.images, Path(folder)) for name in ("SGD", "Adam"))
        runs = [sgd, adam, converge(images, size.loss, Path(folder))]
    parts: dict[str, Callable[[], list[Requirement]]] = {
        "oneshot": functools.partial(oneshot, runs, images, size.repeats),
        "trace": functools.partial(trace, runs, images, size.last, size.repeats),
        "training": functools.partial(
            training, sgd, images, size.last, 3 * size.repeats
        ),  # each one is short
        "whole": functools.partial(whole, sgd, size.counts, size.last, arguments.arpack_seconds),
        "plane": functools.partial(plane, sgd, images, size.points, size.repeats),
    }
    requirements: list[Requirement] = []
    for name in arguments.part or PARTS:
        began = time.perf_counter()
        requirements += parts[name]()
        print(f"({name}: {time.perf_counter() - began:.0f} s)")
    return show(requirements)


if __name__ == "__main__":
    sys.exit(main())
