"""MNIST comes out of the package whole, proved, and resized as the paper resizes it."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import Resize

import optstudy.workloads
from optstudy.errors import OptstudyError
from optstudy.workloads import mnist
from optstudy.workloads.datasets import load
from optstudy.workloads.resize import to_32

PACKAGED = Path(optstudy.workloads.__file__).parent
unhurried = settings(deadline=None)  # a busy machine fails no test
FILES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]


def original_images() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    content = gzip.decompress((PACKAGED / FILES[0]).read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(60_000, 28, 28)


def test_there_are_60000_and_10000_images_of_32_by_32() -> None:
    found = load("mnist")

    assert found.train_x.shape == (60_000, 1, 32, 32)
    assert found.test_x.shape == (10_000, 1, 32, 32)
    assert found.train_x.dtype == torch.uint8
    assert found.classes == tuple("0123456789")


def test_the_digits_are_as_frequent_as_published() -> None:
    found = load("mnist")

    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert found.train_y.bincount().tolist() == train
    assert found.test_y.bincount().tolist() == test


def test_the_bits_are_those_of_resizing_image_by_image_with_pil() -> None:
    sample = range(0, 60_000, 199)
    resize = Resize([32, 32])
    originals = original_images()

    expected = np.stack([np.asarray(resize(Image.fromarray(originals[index]))) for index in sample])

    assert np.array_equal(load("mnist").train_x[list(sample), 0].numpy(), expected)


@pytest.mark.parametrize("values", [[0, 255], [0, 1, 127, 128, 254, 255], list(range(256))], ids=len)
def test_any_image_of_28_by_28_is_resized_to_pils_bits(values: list[int]) -> None:
    images = np.random.default_rng(0).choice(np.array(values, np.uint8), (200, 28, 28, 3))
    resize = Resize([32, 32])

    expected = np.stack([np.asarray(resize(Image.fromarray(image))) for image in images])

    found = to_32(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), expected)


def test_it_is_read_once_a_process() -> None:
    assert load("mnist") is load("mnist")


def damaged(content: bytes, how: str) -> bytes:
    match how:
        case "cut short":
            return content[: len(content) // 2]
        case "no gzip":
            return b"<html>not found</html>"
        case "a broken stream":
            return content[:60] + b"\xff" * 60 + content[120:]
        case "one other pixel":
            unpacked = bytearray(gzip.decompress(content))
            unpacked[-1] ^= 1
            return gzip.compress(bytes(unpacked), compresslevel=1)
    return b""


@pytest.mark.parametrize("how", ["cut short", "no gzip", "a broken stream", "one other pixel", "empty"])
@pytest.mark.parametrize("name", FILES)
def test_a_corrupt_file_is_an_error_that_suggests_reinstalling(tmp_path: Path, name: str, how: str) -> None:
    for other in FILES:
        (tmp_path / other).symlink_to(PACKAGED / other)
    content = (PACKAGED / name).read_bytes()
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(damaged(content, how))

    with pytest.raises(OptstudyError) as raised:
        mnist.load(tmp_path)

    assert str(raised.value).startswith(f"{tmp_path / name}: ")
    assert "reinstall optstudy" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_an_error_that_suggests_reinstalling(tmp_path: Path) -> None:
    with pytest.raises(
        OptstudyError, match=r"train-images-idx3-ubyte\.gz: cannot be read \(No such file.*reinstall"
    ):
        mnist.load(tmp_path)


@unhurried
@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_an_idx_file_is_read_as_it_was_written(data: st.DataObject, shape: list[int]) -> None:
    size = math.prod(shape)
    values = data.draw(st.binary(min_size=size, max_size=size))
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)

    found = mnist.parse_idx(header + values)

    assert found.shape == tuple(shape)
    assert found.tobytes() == values


@pytest.mark.parametrize("shape", [[3], [2, 3, 4]])
def test_an_idx_file_of_the_wrong_length_or_type_is_refused(shape: list[int]) -> None:
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    values = bytes(math.prod(shape))

    with pytest.raises(ValueError, match="header gives"):
        mnist.parse_idx(header + values[1:])
    with pytest.raises(ValueError, match="header gives"):
        mnist.parse_idx(header + values + b"\0")
    with pytest.raises(ValueError, match="header gives"):
        mnist.parse_idx(header[:5])
    with pytest.raises(ValueError, match="begins with 00 00 08, not 00 00 0d"):
        mnist.parse_idx(header.replace(b"\x08", b"\x0d", 1) + values)


@pytest.mark.parametrize(
    "content", [b"text", gzip.compress(b"data", mtime=0)[:-4], gzip.compress(bytes(2000), mtime=0)]
)
def test_a_gzipped_file_that_is_damaged_or_too_large_is_an_error(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "MOST_BYTES", 1000)

    with pytest.raises(ValueError, match="."):
        mnist.gunzip(content)
