"""Fashion-MNIST and CIFAR-10 are read from the data folder, and downloaded only where absent."""

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, cifar
from torchvision.datasets import mnist as torchvision_mnist
from torchvision.transforms import Resize

from optstudy.errors import OptstudyError
from optstudy.workloads import downloads
from optstudy.workloads.datasets import load

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (5, 28, 28), dtype=np.uint8)
COLOURED = RANDOM.integers(0, 256, (6, 2, 3, 32, 32), dtype=np.uint8)  # six batches of two


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Look for data in an empty folder, without a network."""

    def no_network(url: str, **_: object) -> None:
        raise URLError(f"no route to {url}")

    monkeypatch.setenv("OPTSTUDY_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(torchvision_mnist, "download_and_extract_archive", no_network)
    monkeypatch.setattr(cifar, "download_and_extract_archive", lambda url, *_, **__: no_network(url))
    return tmp_path


def small_fashion_mnist() -> Iterator[tuple[str, bytes]]:
    for part, images in (("train", IMAGES[:3]), ("t10k", IMAGES[3:])):
        count = len(images)
        yield f"{part}-images-idx3-ubyte", struct.pack(">HBB3I", 0, 8, 3, count, 28, 28) + images.tobytes()
        yield f"{part}-labels-idx1-ubyte", struct.pack(">HBBI", 0, 8, 1, count) + bytes(range(count))


FILES = dict(small_fashion_mnist())


@pytest.fixture(autouse=True)
def small_files_are_fashion_mnists(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in FILES.items()}
    assert sums.keys() == downloads._FASHION_MNIST.keys()
    monkeypatch.setattr(downloads, "_FASHION_MNIST", {name: sums[name] for name in downloads._FASHION_MNIST})


def put_fashion_mnist(folder: Path) -> Path:
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in FILES.items():
        (raw / name).write_bytes(content)
    return raw


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[:-10],
    "another byte": lambda content: content[:-1] + b"!",
    "empty": lambda content: b"",
}


def put_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = folder / "cifar-10-batches-py"
    place.mkdir()

    def put(name: str, content: object) -> list[str]:
        (place / name).write_bytes(pickle.dumps(content, protocol=2))
        return [name, hashlib.md5((place / name).read_bytes(), usedforsecurity=False).hexdigest()]

    batches = [
        put(name, {"data": batch.reshape(2, 3072), "labels": [index, 9]})
        for index, (name, batch) in enumerate(
            zip([name for name, _ in CIFAR10.train_list + CIFAR10.test_list], COLOURED, strict=True)
        )
    ]
    meta = put("batches.meta", {"label_names": []})
    monkeypatch.setattr(CIFAR10, "train_list", batches[:5])
    monkeypatch.setattr(CIFAR10, "test_list", batches[5:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta[1]})
    return place


def test_fashion_mnist_is_read_from_the_data_folder_and_resized_to_pils_bits(folder: Path) -> None:
    put_fashion_mnist(folder)
    resize = Resize([32, 32])
    expected = np.stack([np.asarray(resize(Image.fromarray(image))) for image in IMAGES])

    found = load("fashion-mnist")

    assert np.array_equal(found.train_x[:, 0].numpy(), expected[:3])
    assert np.array_equal(found.test_x[:, 0].numpy(), expected[3:])
    assert (found.train_y.tolist(), found.test_y.tolist()) == ([0, 1, 2], [0, 1])
    assert found.classes[9] == "Ankle boot"


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "."])
@pytest.mark.parametrize("level", [1, 9])
def test_files_of_fashion_mnist_are_recognised_by_their_content_however_they_were_compressed(
    folder: Path, place: str, level: int
) -> None:
    (folder / place).mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (folder / place / f"{name}.gz").write_bytes(gzip.compress(content, level, mtime=0))

    found = load("fashion-mnist")

    assert (found.train_y.tolist(), found.test_y.tolist()) == ([0, 1, 2], [0, 1])


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_other_content_is_named_and_kept(
    folder: Path, name: str, damage: Callable[[bytes], bytes], suffix: str
) -> None:
    raw = put_fashion_mnist(folder)
    (raw / name).unlink()
    content = damage(gzip.compress(FILES[name], 1) if suffix else FILES[name])
    (raw / (name + suffix)).write_bytes(content)

    with pytest.raises(OptstudyError) as raised:
        load("fashion-mnist")

    assert str(raised.value) == (
        f"{raw / name}{suffix}: its checksum is not that of Fashion-MNIST's file; replace it, or delete it so that it"
        " is downloaded"
    )
    assert (raw / (name + suffix)).read_bytes() == content


def test_cifar10_is_read_from_the_data_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_cifar10(folder, monkeypatch)

    found = load("cifar10")

    assert np.array_equal(found.train_x.numpy(), COLOURED[:5].reshape(10, 3, 32, 32))
    assert np.array_equal(found.test_x.numpy(), COLOURED[5])
    assert found.train_y.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert found.classes[0] == "airplane"


@pytest.mark.parametrize(
    ("name", "place"), [("fashion-mnist", "FashionMNIST/raw"), ("cifar10", "cifar-10-batches-py")]
)
def test_the_error_of_a_failed_download_names_the_folder_for_the_files(
    folder: Path, name: str, place: str
) -> None:
    with pytest.raises(OptstudyError) as raised:
        load(name)

    message = str(raised.value)
    assert message.startswith(f"{name} can be neither read from {folder / place} nor downloaded (")
    assert "no route to" in message
    assert message.endswith("with --data-dir")
    assert "\n" not in message


def test_a_corrupt_batch_of_cifar10_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = put_cifar10(folder, monkeypatch)
    (place / "data_batch_3").write_bytes(b"")

    with pytest.raises(OptstudyError, match="data_batch_3: its checksum is not that of CIFAR-10's file"):
        load("cifar10")


def test_the_data_folder_is_data_in_the_current_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_fashion_mnist(tmp_path / "data")
    monkeypatch.delenv("OPTSTUDY_DATA_DIR")
    monkeypatch.chdir(tmp_path)

    assert len(load("fashion-mnist").train_y) == 3
