"""Check that each Ray node matches the driver's machine: Python, packages, code and the user's files."""

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from optstudy.records.provenance import Provenance
from optstudy.workloads.user_code import sources

_OPTSTUDY = Path(__file__).resolve().parents[2]


def describe_machine(references: Sequence[str]) -> Provenance:
    """Return what all machines must share: versions, optstudy's own code, and the files that references name."""
    return Provenance(_versions(), {"code": _code()}, sources=_files(references))


def difference(driver: Provenance, folder: str, data_dir: str | None, references: Sequence[str]) -> str:
    """Change to the study's folder, and describe the first difference to the driver's machine; "" if there is none.

    ``driver`` is its `describe_machine`; a ``data_dir`` of None is not required.
    """
    try:
        os.chdir(folder)
    except OSError:
        return f"no folder {folder}; put it on a file system that all nodes share"
    if data_dir is not None and not Path(data_dir).exists():
        return f"no data folder {data_dir}; put it on a file system that all nodes share"
    if "" not in sys.path:
        sys.path.insert(0, "")
    for name, version in _versions().items():
        if version != driver.versions[name]:
            return f"{name} {version}, but the driver has {driver.versions[name]}; install the same"
    if _code() != driver.environment["code"]:
        return (
            f"another optstudy in {_OPTSTUDY} than the driver's; install the same there, and keep none in the"
            " folder where the study runs"
        )
    before, now = driver.sources or {}, _files(references)
    return next((f"another {file}" for file in {**before, **now} if before.get(file) != now.get(file)), "")


def existing(folder: str | Path | None) -> str | None:
    """Return a data folder if it exists; one that does not exist yet is not required of other machines."""
    return str(folder) if folder is not None and Path(folder).exists() else None


def _files(references: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of the user's files, by name."""
    return {file: digest for reference in references for file, digest in sources(reference).items()}


def _versions() -> dict[str, str]:
    installed = {name: importlib.metadata.version(name) for name in ("torch", "optstudy")}
    return {"python": platform.python_version(), **installed}


def _code() -> str:
    """Return one SHA-256 of all of optstudy's Python files and their names, since checkouts share one version."""
    combined = hashlib.sha256()
    for file in sorted(_OPTSTUDY.rglob("*.py")):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        combined.update(f"{file.relative_to(_OPTSTUDY).as_posix()} {content}\n".encode())
    return combined.hexdigest()
