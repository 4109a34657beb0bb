"""Check that each Ray node matches the driver's machine: Python, packages, code and the user's files."""

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from optstudy.workloads.user_code import sources

_OPTSTUDY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Home:
    """The folder, packages and files that a worker's machine must have in common with the driver's."""

    folder: str
    data_dir: str | None
    versions: Mapping[str, str]
    code: str  # fingerprint of optstudy's own files, since checkouts share one version
    sources: Mapping[str, Mapping[str, str]]  # fingerprints of the user's files, by reference

    @classmethod
    def here(cls, data_dir: str | Path | None, references: Sequence[str]) -> Self:
        """Describe the machine of this process; a data folder that does not exist yet is not required."""
        found = data_dir is not None and Path(data_dir).exists()
        named = {reference: sources(reference) for reference in references}
        return cls(str(Path.cwd()), str(data_dir) if found else None, _versions(), _code(), named)

    def differs(self) -> str:
        """Change to the folder, and describe the first difference to this machine; "" if there is none."""
        try:
            os.chdir(self.folder)
        except OSError:
            return f"no folder {self.folder}; put it on a file system that all nodes share"
        if self.data_dir is not None and not Path(self.data_dir).exists():
            return f"no data folder {self.data_dir}; put it on a file system that all nodes share"
        if "" not in sys.path:
            sys.path.insert(0, "")
        here = _versions()
        other = [name for name, version in self.versions.items() if here[name] != version]
        if other:
            name = other[0]
            return f"{name} {here[name]}, but the driver has {self.versions[name]}; install the same"
        if _code() != self.code:
            return (
                f"another optstudy in {_OPTSTUDY} than the driver's; install the same there, and keep none in the"
                " folder where the study runs"
            )
        return next((f"another {file}" for file in self._changed()), "")

    def _changed(self) -> Iterator[str]:
        for reference, files in self.sources.items():
            now = sources(reference)
            yield from (file for file in {**files, **now} if files.get(file) != now.get(file))


def _versions() -> dict[str, str]:
    installed = {name: importlib.metadata.version(name) for name in ("torch", "optstudy")}
    return {"python": platform.python_version(), **installed}


def _code() -> str:
    """Return one SHA-256 of all of optstudy's Python files and their names."""
    found = hashlib.sha256()
    for file in sorted(_OPTSTUDY.rglob("*.py")):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        found.update(f"{file.relative_to(_OPTSTUDY).as_posix()} {content}\n".encode())
    return found.hexdigest()
