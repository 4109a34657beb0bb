"""Files that users give are read, or refused in one line that names the file and says what to do."""

import os
import socket
from pathlib import Path

import pytest

from optstudy.errors import UsageError
from optstudy.records import inputs
from optstudy.records.inputs import read_input, read_text, read_toml

REMEDY = "give another"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with much that is no file."""
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    Path("large").write_bytes(bytes(2000))
    Path("latin").write_bytes("é".encode("latin-1"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("absent", "absent: cannot be read (No such file or directory); give another"),
        ("loop", "loop: cannot be read (Too many levels of symbolic links); give another"),
        ("x" * 300, f"{'x' * 300}: cannot be read (File name too long); give another"),
        ("a\0b", "a\0b: cannot be read (embedded null byte); give another"),
        ("large/a", "large/a: cannot be read (Not a directory); give another"),
        ("folder", "folder: is a folder, not a file; give another"),
        ("pipe", "pipe: is a pipe, not a file; give another"),
        ("socket", "socket: is a socket, not a file; give another"),
        ("/dev/zero", "/dev/zero: is a device, not a file; give another"),
        ("large", "large: has 2,000 bytes, more than 1,000; give another"),
        ("latin", "latin: not a text file in UTF-8; give another"),
    ],
)
def test_what_is_no_text_file_is_refused(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_BYTES", 1000)

    with pytest.raises(UsageError) as raised:
        read_text(Path(name), REMEDY)

    assert str(raised.value) == line


def test_a_byte_order_mark_is_no_text() -> None:
    Path("marked").write_bytes(b"\xef\xbb\xbfa = 1\n")

    assert read_text(Path("marked"), REMEDY) == "a = 1\n"
    assert read_input(Path("marked"), REMEDY) == b"\xef\xbb\xbfa = 1\n"
    assert read_toml(Path("marked")) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = ", "Invalid value"),
        (f"a = {'9' * 400}", "a whole number has more than 64 bits"),
        (f"a = {'9' * 5000}", "a whole number has more than 64 bits"),
        (f"a = [{{b = {'9' * 400}}}]", "a whole number has more than 64 bits"),
        ("a = " + "[" * 10_000 + "]" * 10_000, "it is nested too deeply"),
        ("a = " + "[" * 200 + "]" * 200, "it is nested in more than 100 levels"),
        ("a." * 200 + "a = 1", "it is nested in more than 100 levels"),
        ("a." * 10_000 + "a = 1", "it has more than 1,000,000 characters, or 1,000 dots in a line"),
        ("a = 1\na = 2", "Cannot overwrite a value"),
    ],
)
def test_toml_that_no_study_needs_is_refused(text: str, why: str) -> None:
    Path("mine.toml").write_text(text)

    with pytest.raises(UsageError) as raised:
        read_toml(Path("mine.toml"))

    assert str(raised.value).startswith("mine.toml: not a TOML file")
    assert why in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
