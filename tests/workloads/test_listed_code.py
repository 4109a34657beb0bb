"""Of the user's files only the listed ones are imported, and a file that is not listed is named."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from optstudy.errors import UsageError
from optstudy.workloads.listed_code import import_only
from optstudy.workloads.user_code import load_object, sources

import_only({str(Path(name).resolve()): digest for name, digest in sources("pkg/net.py:value").items()})
try:
    print(load_object("pkg/net.py:value"))
except UsageError as error:
    print(error)
"""

MISSING = "pkg/net.py:2: ModuleNotFoundError"


def loaded(code: str, folder: Path) -> str:
    """Return the value of ``pkg/net.py`` in a process that imports only listed files, or the error."""
    (folder / "pkg").mkdir()
    (folder / "pkg" / "__init__.py").touch()
    (folder / "pkg" / "net.py").write_text(code)
    (folder / "pkg" / "means.json").write_text("[1]")
    (folder / "helper.py").write_text("value = 2")
    (folder / "click.py").write_text("raise SystemExit('hidden')")
    words = [sys.executable, "-c", PROGRAM]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("from helper import value", "2"),
        (
            "import importlib\nvalue = importlib.import_module('helper').value",
            f"{MISSING}: helper.py exists, but was not listed, since no import statement names it",
        ),
        (
            "import importlib\nvalue = importlib.import_module('absent').value",
            f"{MISSING}: No module named 'absent'",
        ),
        ("import pkgutil\nvalue = pkgutil.get_data(__package__, 'means.json')", "b'[1]'"),
        ("import importlib\nvalue = importlib.import_module('click').__name__", "click"),
    ],
    ids=["by a statement", "dynamic", "absent", "data", "an installed package behind a file"],
)
def test_a_file_is_imported_if_a_statement_names_it_else_the_message_says_so(
    code: str, said: str, tmp_path: Path
) -> None:
    assert loaded(code, tmp_path) == said


def test_a_file_that_changed_after_it_was_listed_is_not_imported(tmp_path: Path) -> None:
    assert (
        loaded(
            "from pathlib import Path\nPath('helper.py').write_text('')\nimport helper\nvalue = 1", tmp_path
        )
        == "pkg/net.py:3: ImportError: helper.py has changed since it was listed"
    )
