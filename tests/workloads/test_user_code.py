"""References name the user's code, find it again, and know what it is made of."""

import collections
import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import nn

from optstudy.errors import UsageError
from optstudy.workloads.user_code import call, load_object, reference_to, sources

NET = "def make():\n    return 'a net'\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, and forget afterwards what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(sys.modules)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__spec__", None)):
            del sys.modules[name]
            sys.modules.update({name: before[name]} if name in before else {})


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Nested:
    """Holds what cannot be named by module and name."""

    def method(self) -> None: ...


def nested() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


def test_importing_the_module_does_not_change_torch() -> None:
    program = "import sys, optstudy.workloads.user_code; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_file_is_loaded_once_under_its_own_name() -> None:
    write("net.py", "made = []\nmade.append(1)\ndef make(): return made\n")

    make = load_object("net.py:make")

    assert load_object("net.py:make") is make
    assert sys.modules["net"].make is make
    assert make() == [1]


def test_a_file_in_a_subfolder_imports_from_its_folder_and_the_current_folder() -> None:
    write("common.py", "width = 3\n")
    write("nets/layers.py", "depth = 4\n")
    write("nets/small.py", "import common, layers\nsize = common.width * layers.depth\n")

    assert load_object("nets/small.py:size") == 12


def test_a_file_of_a_package_may_import_relatively() -> None:
    write("pkg/__init__.py", "")
    write("pkg/layers.py", "depth = 4\n")
    write("pkg/net.py", "from .layers import depth\n")

    assert load_object("pkg/net.py:depth") == 4
    assert load_object("pkg/net.py:depth") is load_object("pkg.net:depth")


def test_modules_of_the_current_folder_and_installed_classes_are_found() -> None:
    write("pkg/net.py", NET)

    assert load_object("pkg.net:make")() == "a net"
    assert load_object("pkg.net.make")() == "a net"
    assert load_object("collections.OrderedDict") is collections.OrderedDict


def test_equal_names_in_two_folders_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("one/net.py", "name = 1\n")
    write("two/net.py", "name = 2\n")

    monkeypatch.chdir(tmp_path / "one")
    first = load_object("net.py:name")
    monkeypatch.chdir(tmp_path / "two")

    assert (first, load_object("net.py:name")) == (1, 2)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nte.py:make", "did you mean 'net.py'?"),
        ("net.py:mkae", "did you mean 'make'?"),
        ("collectoins.OrderedDict", "did you mean 'collections'?"),
        ("collections.abcd:Iterable", "did you mean 'abc'?"),
        ("collections.OrderdDict", "did you mean 'OrderedDict'?"),
        ("net.py", "as in net.py:make"),
        ("make", "write it as net.py:make or package.module:make"),
        (":make", "write it as net.py:make or package.module:make"),
        ("net.py:", "write it as net.py:make or package.module:make"),
    ],
)
def test_the_error_of_an_invalid_reference_suggests_a_valid_one(reference: str, message: str) -> None:
    write("net.py", NET)

    with pytest.raises(UsageError) as raised:
        load_object(reference)

    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = x / 0\n", "net.py:2: ZeroDivisionError: division by zero"),
        ("x = 1\nx = = 2\n", "net.py:2: SyntaxError: invalid syntax"),
        ("\nraise ValueError('two\\nlines')\n", "net.py:2: ValueError: two lines"),
        ("import sys\nsys.exit('bye')\n", "net.py:2: SystemExit: bye"),
        ("import absent_package\n", "net.py:1: ModuleNotFoundError: No module named 'absent_package'"),
        ("import json\njson.loads('{')\n", "net.py:2: JSONDecodeError"),
        ("import helper\n", "helper.py:3: KeyError: 'x'"),
    ],
)
def test_an_error_in_a_file_has_its_line_and_reason(text: str, message: str) -> None:
    write("net.py", text)
    write("helper.py", "\n\n{}['x']\n")

    with pytest.raises(UsageError) as raised:
        load_object("net.py:make")

    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is not None
    assert "net" not in sys.modules


def test_a_file_cannot_take_the_name_of_a_loaded_module() -> None:
    write("json.py", NET)

    with pytest.raises(UsageError, match=r"json\.py: 'json' is already the name of another module"):
        load_object("json.py:make")


def test_call_names_the_line_that_raised() -> None:
    write("net.py", "def make():\n    return [][1]\ndef two(a, b): ...\nthree = 3\n")

    with pytest.raises(UsageError, match=r"^net\.py:2: IndexError: list index out of range$"):
        call("net.py:make")
    with pytest.raises(UsageError, match=r"^net\.py:two: TypeError: two\(\) missing 2 required"):
        call("net.py:two")
    with pytest.raises(UsageError, match=r"^net\.py:three is not a function, but of type int$"):
        call("net.py:three")


@pytest.mark.parametrize("path", ["net.py", "nets/small.py", "pkg/inner/net.py"])
def test_a_function_of_a_file_and_its_reference_name_each_other(path: str) -> None:
    write("pkg/__init__.py", "")
    write("pkg/inner/__init__.py", "")
    write(path, NET)
    make = load_object(f"{path}:make")

    assert reference_to(make) == f"{path}:make"
    assert load_object(reference_to(make)) is make


@pytest.mark.parametrize(
    ("thing", "reference"),
    [
        (json.dumps, "json:dumps"),
        (collections.OrderedDict, "collections:OrderedDict"),
        (load_object, "optstudy.workloads.user_code:load_object"),
        ("net.py:make", "net.py:make"),
    ],
)
def test_installed_code_is_named_by_its_module_and_a_string_by_itself(thing: object, reference: str) -> None:
    assert reference_to(thing) == reference


@pytest.mark.parametrize(
    "thing",
    [lambda: None, nested(), Nested().method, functools.partial(json.dumps, 1)],
    ids=["lambda", "nested", "method", "partial"],
)
def test_functions_that_another_process_cannot_import_are_an_error(thing: object) -> None:
    with pytest.raises(UsageError, match="define it at the top level of a file"):
        reference_to(thing)


@pytest.mark.parametrize("thing", [Nested(), nn.Sequential(), 3, None])
def test_what_a_function_returned_is_an_error_that_asks_for_the_function(thing: object) -> None:
    with pytest.raises(UsageError) as raised:
        reference_to(thing)

    assert str(raised.value) == (
        f"an object of type {type(thing).__name__} cannot be imported by another process; give the function itself,"
        " without calling it"
    )


PROGRAM = """
from optstudy.errors import UsageError
from optstudy.workloads.user_code import load_object, reference_to
def make(): ...
try:
    print(reference_to(make), load_object(reference_to(make)) is make)
except UsageError as error:
    print(error)
"""


def run(*arguments: str, text: str = "") -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def test_the_running_program_references_its_functions_without_being_rerun() -> None:
    write("studies/mine.py", PROGRAM)

    assert run("studies/mine.py") == "studies/mine.py:make True\n"


def test_a_function_from_standard_input_is_refused() -> None:
    assert "define it at the top level of a file" in run("-", text=PROGRAM)
    assert "define it at the top level of a file" in run("-c", PROGRAM)


def test_sources_hold_the_file_and_all_local_files_that_it_imports() -> None:
    files = {
        "nets/net.py": "import json, layers\nfrom common import parts\ndef make():\n    import late\n",
        "nets/layers.py": "import net\n",
        "nets/late.py": "",
        "common/__init__.py": "from . import base\n",
        "common/base.py": "from ..nets import net\n",
        "common/parts.py": "from .deep.leaf import x\n",
        "common/deep/__init__.py": "",
        "common/deep/leaf.py": "x = 1\n",
    }
    for path, text in {**files, "nets/unused.py": "", "common/unused.py": ""}.items():
        write(path, text)

    assert sources("nets/net.py:make") == {path: digest(files[path]) for path in sorted(files)}


@pytest.mark.parametrize("reference", ["pkg/net.py:make", "pkg.net:make", "pkg.net.make"])
def test_sources_are_the_same_however_the_file_is_named(reference: str) -> None:
    write("pkg/__init__.py", "")
    write("pkg/net.py", NET)

    assert sources(reference) == {"pkg/__init__.py": digest(""), "pkg/net.py": digest(NET)}


def test_sources_of_a_dotted_class_in_the_current_folder_count() -> None:
    write("lion.py", "class Lion: ...\n")

    assert sources("lion.Lion") == {"lion.py": digest("class Lion: ...\n")}


@pytest.mark.parametrize(
    "reference",
    [
        "mnist",
        "torch.optim.SGD",
        "json:dumps",
        "optstudy.workloads.user_code:call",
        "absent.Thing",
        "sys.path",
    ],
)
def test_built_in_and_installed_code_has_no_sources(reference: str) -> None:
    assert sources(reference) == {}


def test_packages_installed_below_the_current_folder_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    write(".venv/lib/python3/site-packages/installed.py", "")
    write("net.py", "import installed\n")
    monkeypatch.syspath_prepend(str(Path(".venv/lib/python3/site-packages").resolve()))

    assert list(sources("net.py:make")) == ["net.py"]


def test_sources_of_a_missing_or_broken_file_are_an_error() -> None:
    write("net.py", "\n(\n")

    with pytest.raises(UsageError, match=r"^nte\.py: no such file in .* [(]did you mean 'net\.py'[?][)]$"):
        sources("nte.py:make")
    with pytest.raises(UsageError, match=r"^net\.py:2: SyntaxError: "):
        sources("net.py:make")


@pytest.mark.parametrize("name", ["x" * 300, "d/" * 3000 + "net", "loop", "pipe", "folder", "a\0b"])
@pytest.mark.parametrize("read", [load_object, sources])
def test_a_path_that_leads_to_no_file_is_an_error_in_one_line(
    read: Callable[[str], object], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop.py").symlink_to("loop.py")
    Path("folder.py").mkdir()
    os.mkfifo("pipe.py")

    with pytest.raises(UsageError, match="no such file|cannot be looked up") as raised:
        read(f"{name}.py:make")

    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("load", [load_object, sources])
@pytest.mark.parametrize(
    "reference",
    [
        "a\0.py:make",
        "\ud800.py:make",
        "net.py:\x1b[31m",
        "net.py:make\n",
        f"{'x' * 300}.py:make",
        f"{'x/' * 5000}a.py:make",
    ],
)
def test_a_reference_that_no_file_can_have_is_one_line(
    reference: str, load: Callable[[str], object], user_files: Path
) -> None:
    with pytest.raises(UsageError) as raised:
        load(reference)

    assert str(raised.value).isprintable()
