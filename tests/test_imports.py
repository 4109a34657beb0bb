"""Packages import only those before them, each heavy library has one importer, and light things stay light."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import optstudy

PACKAGE = Path(optstudy.__file__).parent

# A package imports only those before it, or files of its own; so do imports for type checkers alone.
ORDER = [
    "errors", "curvature", "statistics", "records", "workloads", "optimizers", "training", "execution",
    "tracking", "comparison", "report", "study", "posthoc", "cli",
]  # fmt: skip

# What stands beside them, and may import any.
FRONT = {"__init__", "__main__", "data", "figures"}

# The only importers of libraries that take time to load, or belong to one side of the program.
IMPORTERS = {
    "optuna": "study/tuning/",
    "mlflow": "tracking/",
    "matplotlib": "report/figures/",
    "click": "cli/",
    "rich": "cli/",
    "ray": "execution/ray/",
    "safetensors": "posthoc/",
}

FILES = {file.relative_to(PACKAGE).as_posix(): file for file in sorted(PACKAGE.rglob("*.py"))}


def package_of(name: str) -> str:
    """Return the name in ORDER or FRONT that a file belongs to."""
    return name.partition("/")[0].removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    """Yield what a file imports anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, 0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                yield "a relative import"


def loaded_by(program: str) -> set[str]:
    """Return the top-level modules that a program has loaded when it ends."""
    modules = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{modules}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_every_file_has_its_place_in_the_order() -> None:
    assert {package_of(name) for name in FILES} == FRONT | set(ORDER)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_packages_before_its_own(name: str) -> None:
    own = package_of(name)
    before = set(ORDER[: ORDER.index(own) + 1]) if own in ORDER else set(ORDER)
    parts = [found.split(".") for found in imported(FILES[name])]

    assert "a relative import" not in imported(FILES[name])
    assert {part[1] for part in parts if part[0] == "optstudy"} - {"__version__"} <= before


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("/__init__.py")])
def test_a_package_says_in_its_first_line_what_it_holds(name: str) -> None:
    docstring = ast.get_docstring(ast.parse(FILES[name].read_text()))

    assert docstring is not None
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("library", IMPORTERS)
def test_a_library_has_one_importer(library: str) -> None:
    importers = [
        name
        for name, file in FILES.items()
        if any(found.split(".")[0] == library for found in imported(file))
    ]

    assert importers
    assert all(name.startswith(IMPORTERS[library]) for name in importers)


def test_nothing_calls_print() -> None:
    calls = [
        f"{name}:{node.lineno}"
        for name, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write")
    ]

    assert calls == []


@pytest.mark.parametrize(
    "program",
    [
        "import optstudy",
        "from optstudy.cli.main import group; group(['--help'], standalone_mode=False)",
        "from optstudy.cli.main import group; group(['study', '--help'], standalone_mode=False)",
    ],
)
def test_help_imports_nothing_heavy(program: str) -> None:
    heavy = {"torch", "mlflow", "optuna", "pandas", "numpy", "matplotlib", "ray"}

    assert loaded_by(program) & heavy == set()


def test_comparing_and_drawing_need_neither_torch_nor_mlflow() -> None:
    records = sorted(
        name[:-3].replace("/", ".") for name in FILES if name.startswith("records/") and "__" not in name
    )
    modules = [*records, "comparison.table", "report.tables.formats", "report.figures", "statistics"]

    assert (
        loaded_by("\n".join(f"import optstudy.{module}" for module in modules)) & {"torch", "mlflow"} == set()
    )
