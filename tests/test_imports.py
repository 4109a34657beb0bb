"""Modules import only from those above them, each heavy library has one door, and light things stay light."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import optstudy

PACKAGE = Path(optstudy.__file__).parent

# From the top down: a module or package imports only those above it, or files of its own package.
ORDER = (
    "errors",
    "plain",
    "curvature",
    "lookup",
    "nearest",
    "references",
    "data",
    "models",
    "optimizers",
    "training",
    "eigentrace",
    "analysis",
    "specification",
    "workspace",
    "flows",
    "checkpoints",
    "measure",
    "execution",
    "cluster",
    "place",
    "rungs",
    "search",
    "store",
    "tracking",
    "statistics",
    "summaries",
    "searches",
    "verdicts",
    "table",
    "tablecells",
    "summarytext",
    "searchtext",
    "tabletext",
    "evidence",
    "figures",
    "plans",
    "events",
    "estimates",
    "notices",
    "context",
    "environment",
    "facts",
    "finalists",
    "pace",
    "kept",
    "choosing",
    "finding",
    "inquiry",
    "report",
    "reading",
    "reporting",
    "serving",
    "tuning",
    "artifacts",
    "reproduction",
    "final",
    "study",
    "cli",
)

# The only importers of libraries that take time to load, or belong to one side of the program.
DOORS = {
    "optuna": {"search"},
    "mlflow": {"tracking"},
    "matplotlib": {"figures"},
    "click": {"cli"},
    "rich": {"cli"},
    "ray": {"cluster"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def unit(file: Path) -> str:
    """Return the name in ORDER that a file belongs to."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imported(file: Path) -> Iterator[str]:
    """Yield what a file imports anywhere in it, except for type checkers alone."""
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse  # what only annotations name is not there when the program runs
            continue
        waiting += ast.iter_child_nodes(node)
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, 0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                yield "a relative import"


def test_every_module_has_its_place_in_the_order() -> None:
    assert {unit(file) for file in FILES} - {""} == set(ORDER)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_from_above(file: Path) -> None:
    own = unit(file)
    above = set(ORDER[: ORDER.index(own)] if own else ORDER)
    names = [name.split(".") for name in imported(file)]
    units = {parts[1] for parts in names if parts[0] == "optstudy" and parts[1] != "__version__"}

    assert "a relative import" not in imported(file)
    assert units - {own} <= above


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_importer(library: str) -> None:
    importers = {
        unit(file) for file in FILES if any(name.split(".")[0] == library for name in imported(file))
    }

    assert importers == DOORS[library]


def test_nothing_calls_print() -> None:
    calls = [
        f"{file.name}:{node.lineno}"
        for file in FILES
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
def test_what_must_answer_at_once_imports_nothing_heavy(program: str) -> None:
    asked = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{asked}"], capture_output=True, text=True, check=True
    )

    loaded = set(json.loads(done.stdout.splitlines()[-1]))

    assert loaded & {"torch", "mlflow", "optuna", "pandas", "numpy", "matplotlib", "ray"} == set()
