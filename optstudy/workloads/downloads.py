"""Fashion-MNIST and CIFAR-10, through torchvision: read from the data folder, or downloaded to it."""

import contextlib
import hashlib
import http.client
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from optstudy.errors import OptstudyError, first_line
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.mnist import gunzip, parse_idx
from optstudy.workloads.resize import to_32

T = TypeVar("T")

_FASHION_MNIST = {  # MD5 of the unpacked files
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}

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
    """Return the download folder: ``OPTSTUDY_DATA_DIR``, by default ``data`` in the current folder.

    Raises:
        OptstudyError: If there cannot be such a folder, since its path is too long or a loop of links.
    """
    folder = os.environ.get("OPTSTUDY_DATA_DIR") or "data"
    try:
        path = Path(folder).resolve()
        path.exists()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise OptstudyError(
            f"{folder!r} cannot be looked up ({reason}); give the folder of the data with --data-dir"
        ) from error
    return path


@cache
def fashion_mnist(folder: Path) -> Dataset:
    """Read Fashion-MNIST, resized to 32 by 32 like MNIST.

    Its four files, plain or gzipped, are read from ``folder`` or ``folder/FashionMNIST/raw``, and downloaded to the
    latter if they are in neither. They are recognised by their unpacked content, however they were compressed.

    Returns:
        60,000 training and 10,000 test images, uint8 of shape ``(n, 1, 32, 32)``.

    Raises:
        OptstudyError: If a file has other content, or is not there and cannot be downloaded.
    """
    from torchvision.datasets import FashionMNIST

    def read() -> tuple[Tensor, ...]:
        contents = [_find(folder, name, checksum) for name, checksum in _FASHION_MNIST.items()]
        if None in contents:
            FashionMNIST(folder, download=True)
            contents = [_find(folder, name, checksum) for name, checksum in _FASHION_MNIST.items()]
        return tuple(torch.from_numpy(parse_idx(content or b"").copy()) for content in contents)

    files = folder / "FashionMNIST" / "raw"
    images, labels, test_images, test_labels = _download("fashion-mnist", files, read)
    return Dataset(
        train_x=to_32(images.unsqueeze(1)),
        train_y=labels.long(),
        test_x=to_32(test_images.unsqueeze(1)),
        test_y=test_labels.long(),
        classes=tuple(FashionMNIST.classes),
    )


@cache
def cifar10(folder: Path) -> Dataset:
    """Read CIFAR-10.

    Returns:
        50,000 training and 10,000 test images, uint8 of shape ``(n, 3, 32, 32)``.

    Raises:
        OptstudyError: If a file has other content, or is not there and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10

    files = folder / CIFAR10.base_folder
    for name, checksum in CIFAR10.train_list + CIFAR10.test_list:
        if (files / name).is_file() and _md5((files / name).read_bytes()) != checksum:
            raise _other_content(files / name, "CIFAR-10")

    def part(train: bool) -> tuple[Tensor, Tensor]:
        dataset = CIFAR10(folder, train=train, download=True)
        return torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(dataset.targets)

    (train_x, train_y), (test_x, test_y) = _download("cifar10", files, lambda: (part(True), part(False)))
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return Dataset(train_x, train_y, test_x, test_y, classes)


def _find(folder: Path, name: str, checksum: str) -> bytes | None:
    """Return the unpacked content of a file of Fashion-MNIST; None if it is nowhere."""
    places = (folder / "FashionMNIST" / "raw", folder)
    found = [path for place in places for path in (place / name, place / f"{name}.gz") if path.is_file()]
    for path in found:
        content = path.read_bytes()
        if path.suffix == ".gz":
            with contextlib.suppress(ValueError):  # truncated or damaged
                content = gunzip(content)
        if _md5(content) == checksum:
            return content
    if found:
        raise _other_content(found[0], "Fashion-MNIST")
    return None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _other_content(path: Path, name: str) -> OptstudyError:
    return OptstudyError(
        f"{path}: its checksum is not that of {name}'s file; replace it, or delete it so that it is downloaded"
    )


def _download(name: str, files: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except OptstudyError:
        raise
    except _FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OptstudyError(
            f"{name} can be neither read from {files} nor downloaded ({reason}); "
            "put its files there, or give their folder with --data-dir"
        ) from error
