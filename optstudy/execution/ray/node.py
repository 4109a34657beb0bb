"""Check that each Ray node matches the driver's machine: Python, packages, code and the user's files."""

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from optstudy.execution.local import restrict_imports
from optstudy.records.provenance import Provenance
from optstudy.workloads.user_code import sources

_OPTSTUDY = Path(__file__).resolve().parents[2]


def describe_machine(references: Sequence[str]) -> Provenance:
    """Return what all machines must share: versions, optstudy's code, and the user's files."""
    return Provenance(_versions(), {"code": _code()}, sources=_files(references))


def difference(driver: Provenance, folder: str, data_dir: str | None, references: Sequence[str]) -> str:
    """Change to the study's folder, and describe the first difference from the driver's machine; "" if none exists.

    ``driver`` is `describe_machine` of the driver; a ``data_dir`` of None is not required.
    """
    try:
        os.chdir(folder)
    except OSError:
        return f"no folder {folder}; put it on a file system that all nodes share"
    if data_dir is not None and not Path(data_dir).exists():
        return f"no data folder {data_dir}; put it on a file system that all nodes share"
    restrict_imports()
    if "" not in sys.path:
        sys.path.insert(0, "")
    for name, version in _versions().items():
        if version != driver.versions[name]:
            return f"{name} {version}, but the driver has {driver.versions[name]}; install the same"
    if _code() != driver.environment["code"]:
        return (
            f"a different optstudy in {_OPTSTUDY} than the driver; install the same version, and keep no copy in the"
            " folder of the study"
        )
    before, now = driver.sources or {}, _files(references)
    return next(
        (f"a different {file}" for file in {**before, **now} if before.get(file) != now.get(file)), ""
    )


def existing_folder(folder: str | Path | None) -> str | None:
    """Return a data folder, or None if it does not exist yet, so that other machines do not need it."""
    return str(folder) if folder is not None and Path(folder).exists() else None


def _files(references: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each of the user's files, by name."""
    return {file: digest for reference in references for file, digest in sources(reference).items()}


def _versions() -> dict[str, str]:
    installed = {name: importlib.metadata.version(name) for name in ("torch", "optstudy")}
    return {"python": platform.python_version(), **installed}


def _code() -> str:
    """Return the SHA-256 of all Python files of optstudy and their names, since checkouts share a version number."""
    combined = hashlib.sha256()
    for file in sorted(_OPTSTUDY.rglob("*.py")):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        combined.update(f"{file.relative_to(_OPTSTUDY).as_posix()} {content}\n".encode())
    return combined.hexdigest()
