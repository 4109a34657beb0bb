"""Where a study runs: what a run records of the machine and the code, so that another can tell what differs."""

import platform
import subprocess
from pathlib import Path


def environment() -> dict[str, str]:
    """Return Python, system and processor, and the working folder's commit and whether its tree was clean."""
    commit = _git("rev-parse", "HEAD")
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
    }
    if commit:
        changed = _git("status", "--porcelain", "--untracked-files=no")
        found |= {"commit": commit, "tree": "changed" if changed else "clean"}
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607  # git of the user's path
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
