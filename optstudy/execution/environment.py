"""Record the code, packages and machine of a study."""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from optstudy.records.plan import Plan
from optstudy.records.provenance import PACKAGES, Provenance
from optstudy.workloads.datasets import load_description
from optstudy.workloads.user_code import sources

_PROJECT = Path(__file__).resolve().parents[2]
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def gather_provenance(plan: Plan | None = None) -> Provenance:
    """Return the provenance of results computed in this process.

    Args:
        plan: Plan of a run, to add the checksum of its data and the hashes of the user's files.

    Returns:
        Versions of the packages that results depend on, and an environment of ``python`` and ``system``; ``commit``
        of the working folder and whether its ``tree`` is clean, if under git; ``optstudy_commit``, if optstudy
        runs from a checkout or an image; and ``lock``, the first digits of the SHA-256 of requirements.lock, if
        the installed versions match it exactly.
    """
    commit, tree = _checkout(Path.cwd())
    entries = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit,
        "tree": tree,
        "optstudy_commit": _image_commit() or _own_commit(),
        "lock": _lock(),
    }
    environment = {name: value for name, value in entries.items() if value}
    versions = package_versions()
    if plan is None:
        return Provenance(versions, environment)
    files = {name: digest for reference in plan.references for name, digest in sources(reference).items()}
    return Provenance(versions, environment, load_description(plan.dataset).checksum, files)


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that results depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _checkout(folder: Path) -> tuple[str, str]:
    """Return a folder's commit and whether its tree is clean; empty strings if it is not under git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return "", ""
    return commit, "changed" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "clean"


def _image_commit() -> str:
    """Return the commit that the container image was built from; empty if it was not recorded."""
    commit = os.environ.get("OPTSTUDY_COMMIT", "")
    return "" if commit == "unknown" else commit


def _own_commit() -> str:
    """Return the commit of the checkout that optstudy runs from; empty if it is installed as a package."""
    if not (_PROJECT / "pyproject.toml").exists():
        return ""
    commit, tree = _checkout(_PROJECT)
    return commit + "-dirty" * (tree == "changed")


def _lock() -> str:
    """Return the hash of requirements.lock if the installed packages match it exactly, else an empty string."""
    path = Path(os.environ.get("OPTSTUDY_LOCK", "") or _PROJECT / "requirements.lock")
    try:
        text = path.read_text()
    except OSError:
        return ""
    pins = _PIN.findall(text)
    if not pins or any(_installed(name) not in (None, version) for name, version in pins):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _installed(name: str) -> str | None:
    """Return the installed version of a package; None if it is not installed, which is valid for extras."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *words: str) -> str:
    try:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # git of the user's path
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
