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
starts    one starting row or several at once, over three batches
large     a ResNet-18 of 11.2 million parameters and a transformer of 0.92 million at initialisation, by every library

LeNet-5, trained by SGD, by Adam, and by full-batch Adam until it fits the 100 images. All rows use two threads and are
timed alternately; the minimum of a row's times counts, since other programs can only slow it down. The reference values
are computed in float64 by two programs. The exit status is 1 only if a requirement of accuracy is not met.

`large` trains nothing, and each of its rows is a process of its own with one thread, measured after one product; its
residuals are in float64. With --quick it measures the transformer alone. To set an older version beside this one:

    git worktree add /tmp/before COMMIT
    python benchmarks/curvature.py --part large --before /tmp/before

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
from typing import Any

import torch
from curves.large import large
from curves.oneshot import oneshot
from curves.plane import plane
from curves.report import Images, Requirement, show
from curves.starts import starts
from curves.tracing import trace, training
from curves.trained import THREADS, Trained, converge, images_for_curvature, train
from curves.whole import whole
from training import processor

PARTS = ("oneshot", "trace", "training", "whole", "plane", "starts", "large")
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
    nets: tuple[str, ...]  # of `large`


FULL = Size(0, 1e-6, 100, 2, (6_000, 30_000, 60_000), 41, ("resnet", "transformer"))
QUICK = Size(10_000, 1e-4, 20, 1, (600, 1_500, 3_000), 11, ("transformer",))


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
        "--before",
        type=Path,
        metavar="DIR",
        help="checkout of an older version, measured beside this one in `large`",
    )
    parser.add_argument(
        "--before-seconds",
        type=float,
        default=240.0,
        metavar="S",
        help="time limit of each of its rows (default: 240)",
    )
    parser.add_argument(
        "--net", action="append", choices=FULL.nets, help="net of `large` (default: both); may be given twice"
    )
    parser.add_argument(
        "--arpack-seconds",
        type=float,
        metavar="S",
        help="time limit of ARPACK on the whole training set (default: not run)",
    )
    return parser.parse_args()


@dataclass(frozen=True)
class Models:
    """What LeNet-5 was trained to."""

    sgd: Trained
    runs: tuple[Trained, ...]
    images: Images
    start_images: Images


def train_all(folder: Path, epochs: int, size: Size) -> Models:
    """Train LeNet-5 in three ways."""
    images = images_for_curvature()
    sgd, adam = (train(name, epochs, size.images, folder) for name in ("SGD", "Adam"))
    return Models(sgd, (sgd, adam, converge(images, size.loss, folder)), images, images_for_curvature(600))


def parts_of(
    arguments: argparse.Namespace, size: Size, epochs: int
) -> dict[str, Callable[[], list[Requirement]]]:
    """Return the parts by name; the first that needs trained models trains them."""

    @functools.cache
    def models() -> Models:
        if arguments.models:
            arguments.models.mkdir(parents=True, exist_ok=True)
        with nullcontext(arguments.models) if arguments.models else tempfile.TemporaryDirectory() as folder:
            return train_all(Path(folder), epochs, size)

    def on(part: Callable[..., list[Requirement]], *names: str, rest: tuple[Any, ...]) -> list[Requirement]:
        return part(*(getattr(models(), name) for name in names), *rest)

    return {
        "oneshot": lambda: on(oneshot, "runs", "images", rest=(size.repeats,)),
        "trace": lambda: on(trace, "runs", "images", rest=(size.last, size.repeats)),
        # Each run of it is short.
        "training": lambda: on(training, "sgd", "images", rest=(size.last, 3 * size.repeats)),
        "whole": lambda: on(whole, "sgd", rest=(size.counts, size.last, arguments.arpack_seconds)),
        "plane": lambda: on(plane, "sgd", "images", rest=(size.points, size.repeats)),
        "starts": lambda: on(starts, "runs", "start_images", rest=(size.repeats,)),
        "large": lambda: large(
            arguments.net or size.nets, size.repeats, arguments.before, arguments.before_seconds
        ),
    }


def main() -> int:
    """Measure, print, and return the exit status."""
    arguments = parse_arguments()
    size, epochs = (QUICK, arguments.epochs or 1) if arguments.quick else (FULL, arguments.epochs or 150)
    torch.set_num_threads(THREADS)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {versions}")
    parts = parts_of(arguments, size, epochs)
    requirements: list[Requirement] = []
    for name in arguments.part or PARTS:
        began = time.perf_counter()
        requirements += parts[name]()
        print(f"({name}: {time.perf_counter() - began:.0f} s)")
    return show(requirements)


if __name__ == "__main__":
    sys.exit(main())
