"""Import the user's code from listed files only: for the records from elsewhere that the user trusts."""

import hashlib
import sys
from collections.abc import Mapping
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

from optstudy.workloads.user_code import is_installed, relative_path

_digests: dict[str, str] = {}  # SHA-256 by absolute path
_unlisted: dict[str, str] = {}  # files that were not found, by the module that was asked for


def import_only(files: Mapping[str, str]) -> None:
    """Import from folders that are not installed only the given files, for the rest of this process.

    Other files are not found: neither a ``numpy.py`` that would hide the installed package, nor bytecode or compiled
    extensions. A given file with another hash raises ImportError. Code may read files of other kinds, as by `open`.

    Args:
        files: SHA-256 by absolute path, without symbolic links.
    """
    _digests.update(files)
    if _find_in not in sys.path_hooks:
        sys.path_hooks.insert(0, _find_in)
        sys.path_importer_cache.clear()
        sys.meta_path.append(_Unlisted)  # asked last, when no other file was found either


class _ListedFile(SourceFileLoader):
    """Compile a listed file; bytecode is neither read nor written."""

    def path_stats(self, path: str) -> Mapping[str, float]:
        raise OSError(f"no bytecode of {path}")

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        if path != self.path:  # data for the module, from `pkgutil.get_data`
            return data
        if hashlib.sha256(data).hexdigest() != _digests.get(str(Path(path).resolve())):
            raise ImportError(f"{Path(path).name} has changed since it was listed")
        return data


class _ListedFiles(FileFinder):
    """Find the listed files of a folder, and packages without ``__init__.py``."""

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = super().find_spec(fullname, target)
        if spec is None or spec.loader is None or str(Path(spec.origin or "").resolve()) in _digests:
            return spec
        _unlisted[fullname] = relative_path(Path(spec.origin or ""))
        return None


class _Unlisted:
    """Say why a module is not found although its file exists."""

    @staticmethod
    def find_spec(fullname: str, *_: object) -> None:
        if fullname in _unlisted:
            why = f"{_unlisted[fullname]} exists, but was not listed, since no import statement names it"
            raise ModuleNotFoundError(why, name=fullname)


def _find_in(folder: str) -> FileFinder:
    path = Path(folder).resolve()
    if is_installed(path) or not path.is_dir():
        raise ImportError(f"not a folder of the user's: {folder}")
    return _ListedFiles(folder, (_ListedFile, SOURCE_SUFFIXES))
