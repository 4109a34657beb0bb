"""MNIST, from the four files included in the package."""

import gzip
import hashlib
import io
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from optstudy.errors import OptstudyError
from optstudy.records.inputs import MOST_BYTES
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.resize import to_32

_CHECKSUMS = {  # MD5 of the unpacked files, the same as torchvision's
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_UBYTE = 8  # the code of unsigned bytes in the format


@cache
def load(folder: Path = Path(__file__).parent) -> Dataset:
    """Read MNIST, resized to 32 by 32 for LeNet-5.

    Args:
        folder: Folder of the four compressed files.

    Returns:
        60,000 training and 10,000 test images, uint8 of shape ``(n, 1, 32, 32)``.

    Raises:
        OptstudyError: If a file is missing or corrupt.
    """
    images, labels, test_images, test_labels = (
        torch.from_numpy(parse_idx(_unpack(folder / f"{name}.gz", checksum)).copy())
        for name, checksum in _CHECKSUMS.items()
    )
    return Dataset(
        train_x=to_32(images.unsqueeze(1)),
        train_y=labels.long(),
        test_x=to_32(test_images.unsqueeze(1)),
        test_y=test_labels.long(),
        classes=tuple("0123456789"),
    )


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Read an array of unsigned bytes in the IDX format.

    The file consists of two zero bytes, a byte for the type, one for the number of axes, the size of each axis as a
    big-endian 32-bit integer, and the values in row-major order.

    Raises:
        ValueError: If the type differs, or the length does not match the header.
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, _UBYTE]):  # noqa: PLR2004 - the magic number's bytes
        raise ValueError(f"an IDX file of unsigned bytes begins with 00 00 08, not {content[:3].hex(' ')}")
    axes, start = content[3], 4 + 4 * content[3]
    shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    if len(content) != start + math.prod(shape):
        raise ValueError(f"the IDX header gives shape {shape}, but {len(content) - start} bytes follow it")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def gunzip(content: bytes) -> bytes:
    """Return the content of a gzipped file.

    Raises:
        ValueError: If it is damaged, or has more than `MOST_BYTES` when unpacked.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(unpacked) > MOST_BYTES:
        raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
    return unpacked


def _unpack(path: Path, checksum: str) -> bytes:
    """Return the content of a gzipped file, after verifying its MD5 checksum."""
    advice = "reinstall optstudy, for instance with: pip install --force-reinstall --no-deps optstudy"
    try:
        content = gunzip(path.read_bytes())
    except OSError as error:
        raise OptstudyError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except ValueError as error:
        raise OptstudyError(f"{path}: corrupt ({error}); {advice}") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != checksum:
        raise OptstudyError(f"{path}: corrupt (its checksum is not MNIST's); {advice}")
    return content
