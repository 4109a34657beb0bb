"""Load the user's own code from references such as ``net.py:make``, and fingerprint its source files."""

import ast
import functools
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from optstudy.errors import UsageError, first_line, suggestion
from optstudy.records.inputs import read_input

_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
_OPTSTUDY = Path(__file__).resolve().parents[1]
_SITES = {"site-packages", "dist-packages"}
_added: set[str] = set()  # folders that `_make_importable` added to Python's path


def is_user_code(reference: str) -> bool:
    """Whether a reference names the user's code, such as ``net.py:make``, and not a built-in such as ``mnist``."""
    return ":" in reference or "." in reference


def load_object(reference: str) -> Any:
    """Import the object that a reference names.

    A file is loaded once per process, under its own name: ``net.py`` is the module ``net`` (``pkg.net`` in a
    package ``pkg``). The current folder and the folder of the file become importable.

    Args:
        reference: ``net.py:make`` (a path), ``package.module:make`` or ``package.module.Class``.

    Raises:
        UsageError: If there is no such file, module or name, or if importing it raises.
    """
    where, name = _parse(reference)
    module = _load_file(where) if where.endswith(".py") else _load_module(where)
    if not hasattr(module, name):
        raise UsageError(f"{where} has no '{name}'{suggestion(name, dir(module))}")
    return getattr(module, name)


def call(reference: str) -> Any:
    """Call the named function without arguments, and return its result.

    Raises:
        UsageError: As `load_object` does, and if the object cannot be called or raises, with file and line.
    """
    function = load_object(reference)
    if not callable(function):
        raise UsageError(f"{reference} is not a function, but of type {type(function).__name__}")
    with _user_errors(reference):
        return function()


def reference_to(function: Any) -> str:
    """Return a reference to a function or class, by which another process can load it.

    Args:
        function: A function or class at the top level of a module; a string is returned unchanged.

    Returns:
        ``path/to/file.py:name``, relative to the current folder, for code of the main program or of a file
        below the current folder; ``package.module:name`` for code of an installed package.

    Raises:
        UsageError: If another process cannot import it: a lambda, a nested function, a partial, an instance, or
            anything defined in an interactive session.
    """
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", None) or f"an object of type {type(function).__name__}"
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    file = _module_file(module)
    if module is None or file is None or vars(module).get(name) is not function:
        advice = (
            "define it at the top level of a file"
            if hasattr(function, "__qualname__") or isinstance(function, functools.partial)
            else "give the function itself, without calling it"
        )
        raise UsageError(f"{name} cannot be imported by another process; {advice}")
    program = module.__name__ in {"__main__", "__mp_main__"}
    if program or (file.is_relative_to(Path.cwd()) and not is_installed(file)):
        return f"{relative_path(file)}:{name}"
    return f"{module.__name__}:{name}"


def sources(reference: str) -> dict[str, str]:
    """Fingerprint the user's code behind a reference: its file and every local file that it imports.

    Imports are parsed, not run, so dynamic imports are missed. The standard library, installed packages and optstudy
    itself are excluded.

    Args:
        reference: A reference to code, see `load_object`, or a built-in name (``mnist``).

    Returns:
        The SHA-256 of each file, by its path relative to the current folder; empty for built-in names.

    Raises:
        UsageError: If a named file is missing, or a file is not Python.
    """
    if not is_user_code(reference):
        return {}
    where, _ = _parse(reference)
    pending = (
        _module_files(*_module_root(_resolve_file(where)))
        if where.endswith(".py")
        else _imported_files(where, Path.cwd())
    )
    digests: dict[Path, str] = {}
    while pending:
        file = pending.pop()
        if file not in digests:
            content = read_input(file, "check its permissions")
            digests[file] = hashlib.sha256(content).hexdigest()
            pending += _file_imports(file, content)
    return dict(sorted((relative_path(file), digest) for file, digest in digests.items()))


def check_has_source(reference: str) -> None:
    """Check that the module of a reference is installed or has a source file; nothing is imported.

    Raises:
        UsageError: If it is only bytecode or a compiled extension, which nobody can read.
    """
    where, _ = _parse(reference)
    locations = [] if where.endswith(".py") else _locations(where, Path.cwd())
    if locations and not any(is_installed(path) or _has_file(path.parent, where) for path in locations):
        raise UsageError(
            f"{reference!r} has no source file in {relative_path(locations[0].parent)}, and is not of an installed"
            " package; name a module whose source you can read"
        )


def describe_origin(reference: str) -> str:
    """Say what a reference belongs to that has no file of the user's behind it; nothing is imported.

    Raises:
        UsageError: If there is no such module.
    """
    top = _parse(reference)[0].partition(".")[0]
    if top in sys.stdlib_module_names:
        return "of the standard library"
    locations = _locations(top, Path.cwd()) or _spec_locations(_find_anywhere(top))
    if not locations:
        raise UsageError(
            f"{reference!r}: there is no module {top!r}; install it, or put its file in this folder"
        )
    if any(map(is_installed, locations)):
        return "of an installed package"
    return f"found in {relative_path(locations[0].parent)}, whose files are not listed"


def relative_path(path: Path) -> str:
    """Return a path relative to the current folder, as files are named in fingerprints."""
    return Path(os.path.relpath(path)).as_posix()


def describe_exception(error: BaseException, where: str) -> str:
    """Describe an exception of the user's code in one line that begins with file and line, or with ``where``."""
    kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
    message = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{_location(error) or where}: {kind}{message}"


def _parse(reference: str) -> tuple[str, str]:
    """Split a reference into file or module, and name."""
    if not reference.isprintable():  # such as a null byte, which no path has
        raise UsageError(f"{reference!r} cannot be looked up, since it is not printable text")
    where, _, name = reference.rpartition(":" if ":" in reference else ".")
    if ":" not in reference and name == "py":
        raise UsageError(f"{reference}: name a function of the file, as in {reference}:make")
    if not where or not name:
        raise UsageError(
            f"'{reference}' is not a reference to code; write it as net.py:make or package.module:make"
        )
    return where, name


def _load_file(where: str) -> ModuleType:
    path = _resolve_file(where)
    root, dotted = _module_root(path)
    for name in ("__main__", "__mp_main__", dotted):
        if _module_file(sys.modules.get(name)) == path:
            return sys.modules[name]
    if dotted not in sys.builtin_module_names and not is_installed(_module_file(sys.modules.get(dotted))):
        sys.modules.pop(dotted, None)  # another module of the same name
    _make_importable(root, Path.cwd())
    with _user_errors(where):
        module = importlib.import_module(dotted)
    if _module_file(module) != path:
        raise UsageError(f"{where}: '{dotted}' is already the name of another module; rename the file")
    return module


def _load_module(where: str) -> ModuleType:
    if where in sys.modules:  # such as torch.optim, for which the current folder need not be importable
        return sys.modules[where]
    _make_importable(Path.cwd())
    with _user_errors(where):
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if not f"{where}.".startswith(f"{missing}."):
                raise
            parent, _, name = missing.rpartition(".")
            siblings = pkgutil.iter_modules(getattr(sys.modules.get(parent), "__path__", None))
            raise UsageError(
                f"no such module{suggestion(name, [module.name for module in siblings])}"
            ) from None


def _resolve_file(where: str) -> Path:
    try:
        path = Path(where).resolve()
        found = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a null character
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UsageError(f"{where!r} cannot be looked up ({reason}); name a file such as net.py") from error
    if not found:
        known = [file.name for file in path.parent.glob("*.py")]
        raise UsageError(f"{where}: no such file in {path.parent}{suggestion(path.name, known)}")
    return path


def _module_root(path: Path) -> tuple[Path, str]:
    """Return the folder from which a file is imported, and the full name of its module."""
    root, names = path.parent, [] if path.name == "__init__.py" else [path.stem]
    while (root / "__init__.py").is_file():
        root, names = root.parent, [root.name, *names]
    return root, ".".join(names)


def _make_importable(*folders: Path) -> None:
    _added.update({*map(str, folders)} - {*sys.path})
    sys.path[:] = dict.fromkeys([*map(str, folders), *sys.path])
    importlib.invalidate_caches()  # so that new files are found


def _imported_files(dotted: str, root: Path) -> list[Path]:
    """Return the local files that ``import dotted`` executes in a file whose import folder is ``root``."""
    location = next(iter(_locations(dotted, root)), None)
    return [] if location is None or is_installed(location) else _module_files(location.parent, dotted)


def _locations(dotted: str, root: Path) -> list[Path]:
    """Return the file or folders of the top-level package of a module, without importing it; none if not found."""
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(dotted.partition(".")[0], [str(root), str(Path.cwd()), *sys.path])
    return _spec_locations(spec)


def _find_anywhere(name: str) -> ModuleSpec | None:
    """Find a module of the top level as `import` does, such as one of an editable installation."""
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # of __main__
        return None


def _spec_locations(spec: ModuleSpec | None) -> list[Path]:
    if spec is None:
        return []
    # A package lies in its parent folder; a namespace package has locations but no file.
    locations = [*(spec.submodule_search_locations or [])] or [spec.origin or ""]
    return [Path(location).resolve() for location in locations]


def _has_file(folder: Path, dotted: str) -> bool:
    stem = folder.joinpath(*dotted.split("."))
    return stem.with_name(f"{stem.name}.py").is_file() or (stem / "__init__.py").is_file()


def _module_files(folder: Path, dotted: str) -> list[Path]:
    """Return the files of a module and its parent packages, if they exist."""
    stems = [folder.joinpath(*dotted.split(".")[:end]) for end in range(1, dotted.count(".") + 2)]
    candidates = [(stem / "__init__.py", stem.with_name(f"{stem.name}.py")) for stem in stems]
    return [file for pair in candidates if (file := next(filter(Path.is_file, pair), None))]


def _file_imports(file: Path, content: bytes) -> Iterator[Path]:
    """Yield the local files that a file imports; imported names are also tried as modules."""
    with _user_errors(relative_path(file)):
        tree = ast.parse(content, filename=str(file))
    root, _ = _module_root(file)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        module, level = (node.module, node.level) if isinstance(node, ast.ImportFrom) else (None, 0)
        for alias in node.names:
            dotted = f"{module}.{alias.name}" if module else alias.name
            yield from (
                _module_files(file.parents[level - 1], dotted) if level else _imported_files(dotted, root)
            )


@contextmanager
def _user_errors(where: str) -> Iterator[None]:
    """Convert any exception of the user's code into a UsageError that names file and line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise UsageError(describe_exception(error, where)) from error


def _location(error: BaseException) -> str:
    """Return ``file:line`` of the innermost frame in the user's code, or an empty string."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{relative_path(Path(error.filename))}:{error.lineno}"
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [
        f"{relative_path(file)}:{line}" for file, line in frames if file.is_file() and not is_installed(file)
    ]
    return own[-1] if own else ""


def is_users_own(value: Any) -> bool:
    """Whether a function, class or callable object is defined in a file of the user's, and not in an installed one."""
    return callable(value) and is_user_module(sys.modules.get(getattr(value, "__module__", None) or ""))


def without_partial(value: Any) -> Any:
    """Return what a `functools.partial` calls; anything else as it is."""
    while isinstance(value, functools.partial):
        value = value.func
    return value


def is_user_module(module: ModuleType | None) -> bool:
    """Whether a module is of a file of the user's, and not installed."""
    file = _module_file(module)
    return file is not None and not is_installed(file)


def is_installed(path: Path | None) -> bool:
    """Whether a file belongs to the standard library, an installed package, or optstudy.

    A ``site-packages`` from which Python does not import, such as one beside the user's files, is not installed.
    """
    if path is None:
        return False
    sites = [
        Path(entry).resolve()
        for entry in sys.path
        if entry not in _added and not _SITES.isdisjoint(Path(entry).parts)
    ]
    return any(map(path.is_relative_to, [*sites, _STANDARD_LIBRARY, _OPTSTUDY]))


def _module_file(module: ModuleType | None) -> Path | None:
    """Return a module's file; None if it is built in, interactive, or read from standard input."""
    path = Path(getattr(module, "__file__", None) or "").resolve()
    return path if path.is_file() else None
