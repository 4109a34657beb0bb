"""Fashion-MNIST and CIFAR-10 are read from the data folder, and downloaded only where absent."""

import hashlib
import pickle
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, cifar
from torchvision.datasets import mnist as torchvision_mnist
from torchvision.transforms import Resize

from optstudy.errors import OptstudyError
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


def put_fashion_mnist(folder: Path) -> Path:
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, images in (("train", IMAGES[:3]), ("t10k", IMAGES[3:])):
        count = len(images)
        header = struct.pack(">HBB3I", 0, 8, 3, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">HBBI", 0, 8, 1, count) + bytes(range(count))
        )
    return raw


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


def test_a_file_that_was_cut_short_is_an_error_that_names_the_folder(folder: Path) -> None:
    raw = put_fashion_mnist(folder)
    (raw / "train-images-idx3-ubyte").write_bytes((raw / "train-images-idx3-ubyte").read_bytes()[:-10])

    with pytest.raises(OptstudyError, match=rf"fashion-mnist can be neither read from {raw}"):
        load("fashion-mnist")


def test_a_corrupt_batch_of_cifar10_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = put_cifar10(folder, monkeypatch)
    (place / "data_batch_3").write_bytes(b"")

    with pytest.raises(OptstudyError, match="no route to"):
        load("cifar10")


def test_the_data_folder_is_data_in_the_current_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_fashion_mnist(tmp_path / "data")
    monkeypatch.delenv("OPTSTUDY_DATA_DIR")
    monkeypatch.chdir(tmp_path)

    assert len(load("fashion-mnist").train_y) == 3
