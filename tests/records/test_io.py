"""Files with a checksum: read as written, and any damage to them is told."""

import io
import json
import os
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optstudy.errors import OptstudyError
from optstudy.records.arrays import to_npz
from optstudy.records.forms import FormError
from optstudy.records.io import (
    checksum,
    read_sealed,
    read_sealed_zip,
    remove_unfinished,
    write_sealed,
    write_sealed_zip,
)

CONTENT = {
    "accuracy": 0.8125,
    "epochs": [1, 2],
    "problem": None,
    "name": "é",
    "nested": {"b": True, "a": -1e-9},
}


def weights() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(5.0)}, buffer)
    return buffer.getvalue()


def test_a_json_file_is_read_as_it_was_written_and_ends_with_its_checksum(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", CONTENT)

    assert read_sealed(tmp_path / "a.json") == (CONTENT, True)
    assert list(json.loads((tmp_path / "a.json").read_text()).items())[-1] == ("checksum", checksum(CONTENT))


def test_any_changed_digit_of_a_json_file_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    text = path.read_text()

    for place in (n for n, letter in enumerate(text) if letter.isdigit()):
        path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
        with pytest.raises(FormError, match=r"a\.json "):
            read_sealed(path)


def test_a_bit_of_a_json_file_changes_nothing_unless_it_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    data = path.read_bytes()

    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        try:
            found, has_checksum = read_sealed(path)
        except FormError:
            continue
        assert found == CONTENT or not has_checksum  # white space, or the name of the checksum


def test_white_space_and_order_are_no_content_of_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)

    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))

    assert read_sealed(path).content == CONTENT


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "3", "null", '{"a": NaN}', '{"a": 1e999}', f'{{"a": {"9" * 400}}}', f'{{"a": {2**64}}}',
        f'{{"a": {"[" * 900}{"]" * 900}, "checksum": ""}}', f'{{"a": {"[" * 100_000}', "\ud800", '{"checksum": 5}',
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_json_object_of_finite_numbers_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, errors="surrogatepass")

    with pytest.raises(FormError, match=r"a\.json.*") as error:
        read_sealed(path)
    assert "\n" not in str(error.value)


def test_a_zip_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    for data in (weights(), to_npz({"a": np.arange(3)})):
        write_sealed_zip(tmp_path / "a.zip", data)

        assert read_sealed_zip(tmp_path / "a.zip") == (data, True)


def test_other_programs_open_a_zip_file_with_a_checksum(tmp_path: Path) -> None:
    write_sealed_zip(tmp_path / "a.pt", weights())
    write_sealed_zip(tmp_path / "a.npz", to_npz({"a": np.arange(3)}))

    assert torch.load(tmp_path / "a.pt", weights_only=True)["weight"].tolist() == [0, 1, 2, 3, 4]
    assert np.load(tmp_path / "a.npz")["a"].tolist() == [0, 1, 2]
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None


def test_each_flipped_bit_and_each_cut_of_a_zip_file_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_sealed_zip(path, to_npz({"a": np.arange(3)}))
    data = path.read_bytes()

    flipped = [data[:n] + bytes([data[n] ^ (1 << n % 8)]) + data[n + 1 :] for n in range(len(data))]
    cut = [data[:n] for n in range(len(data))]
    for damaged in (*flipped, *cut, data + b"\0", data + data, b"text"):
        path.write_bytes(damaged)
        with pytest.raises(FormError, match=r"a\.npz does not agree with its checksum"):
            read_sealed_zip(path)


def test_files_without_a_checksum_are_read_and_said_to_have_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(CONTENT))
    (tmp_path / "a.pt").write_bytes(weights())

    assert read_sealed(tmp_path / "a.json") == (CONTENT, False)
    assert read_sealed_zip(tmp_path / "a.pt") == (weights(), False)


@pytest.mark.parametrize("read", [read_sealed, read_sealed_zip])
def test_a_pipe_in_place_of_a_file_is_told_and_not_waited_for(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")

    with pytest.raises(FormError, match=r"cannot read .*a\.json: it is not a regular file"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("read", [read_sealed, read_sealed_zip])
def test_a_folder_in_place_of_a_file_is_told(read: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()

    with pytest.raises(FormError, match=r"cannot read .*a\.json: it is not a regular file"):
        read(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "b.json")


@pytest.mark.parametrize("read", [read_sealed, read_sealed_zip])
def test_a_file_that_cannot_be_read_is_not_called_damaged(read: Any, tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", CONTENT)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no more open files
    try:
        with pytest.raises(OptstudyError, match=r"a\.json: Too many open files; make it readable") as raised:
            read(tmp_path / "a.json")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert not isinstance(raised.value, FormError)


def test_what_was_left_by_a_write_is_removed_and_files_of_users_are_not(tmp_path: Path) -> None:
    for name in (".a.json.optstudy-12", ".a.json.20240101", ".a.json", "a.json.optstudy-12"):
        (tmp_path / name).touch()
    (tmp_path / ".b.optstudy-1").mkdir()

    remove_unfinished(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {
        *(".a.json.20240101", ".a.json", "a.json.optstudy-12", ".b.optstudy-1")
    }


def test_what_is_no_zip_file_is_not_written_with_a_checksum(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data must be a zip file"):
        write_sealed_zip(tmp_path / "a.zip", b"text")
