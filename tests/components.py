"""Parts of the system that some tests need; where one is missing a test is skipped, but in CI it fails."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

IN_NAMESPACE = ("unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []))


def missing(message: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if os.environ.get("OPTSTUDY_CI"):
        pytest.fail(message)
    pytest.skip(message)


def chromium() -> str:
    """Where Chromium is."""
    needed = "chromium is not installed: apt-get install --no-install-recommends chromium fonts-dejavu-core"
    return shutil.which("chromium") or missing(needed)


def postgresql() -> Path:
    """Where PostgreSQL's programs are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    needed = "PostgreSQL is not installed: apt-get install --no-install-recommends postgresql"
    return found[-1] if found else missing(needed)


def may_mount() -> None:
    """Skip the test where the kernel refuses a mount namespace, in CI as well: there is nothing to install."""
    if subprocess.run([*IN_NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted: unshare --mount is refused")


def compile_latex(body: Iterable[str], folder: Path) -> None:
    """Have LaTeX read a document of one body, and fail with what it says at its first error."""
    program = shutil.which("pdflatex") or missing(
        "pdflatex is not installed: apt-get install texlive-latex-recommended"
    )
    document = [
        r"\documentclass{article}",
        r"\usepackage{booktabs}",
        r"\begin{document}",
        *body,
        r"\end{document}",
    ]
    (folder / "tables.tex").write_text("\n".join(document))

    words = [program, "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "tables"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
