"""Fashion-MNIST and CIFAR-10, through torchvision: read from the data folder, or downloaded to it."""

import http.client
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from optstudy.errors import OptstudyError
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.resize import to_32

# Exceptions of torchvision if a server does not answer, a disk is full, or a file is truncated or corrupt.
_FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    EOFError,
    http.client.HTTPException,
)


def data_folder() -> Path:
    """Return the download folder: ``OPTSTUDY_DATA_DIR``, by default ``data`` in the current folder."""
    return Path(os.environ.get("OPTSTUDY_DATA_DIR") or "data").resolve()


@cache
def fashion_mnist(folder: Path) -> Dataset:
    """Read Fashion-MNIST, resized to 32 by 32 like MNIST.

    Returns:
        60,000 training and 10,000 test images, uint8 of shape ``(n, 1, 32, 32)``.

    Raises:
        OptstudyError: If its files are not in the folder and cannot be downloaded.
    """
    from torchvision.datasets import FashionMNIST

    def part(train: bool) -> tuple[Tensor, Tensor]:
        dataset = FashionMNIST(folder, train=train, download=True)
        return to_32(dataset.data.unsqueeze(1)), dataset.targets

    return _read("fashion-mnist", folder / "FashionMNIST" / "raw", part, FashionMNIST.classes)


@cache
def cifar10(folder: Path) -> Dataset:
    """Read CIFAR-10.

    Returns:
        50,000 training and 10,000 test images, uint8 of shape ``(n, 3, 32, 32)``.

    Raises:
        OptstudyError: If its files are not in the folder and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10

    def part(train: bool) -> tuple[Tensor, Tensor]:
        dataset = CIFAR10(folder, train=train, download=True)
        return torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(dataset.targets)

    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return _read("cifar10", folder / CIFAR10.base_folder, part, classes)


def _read(
    name: str,
    files: Path,
    part: Callable[[bool], tuple[Tensor, Tensor]],
    classes: tuple[str, ...] | list[str],
) -> Dataset:
    try:
        (train_x, train_y), (test_x, test_y) = part(True), part(False)
    except _FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OptstudyError(
            f"{name} can be neither read from {files} nor downloaded ({reason}); "
            "put its files there, or give their folder with --data-dir"
        ) from error
    return Dataset(train_x, train_y, test_x, test_y, tuple(classes))
