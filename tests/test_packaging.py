"""What is built holds all that a study needs, and nothing that happened to lie around."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MNIST = {
    f"optstudy/workloads/{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
}
JUNK = {"best", "studies", "mlruns", "__pycache__", ".venv"}


def run(command: Sequence[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def source(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A copy of the project in which a study has run and a person has left notes."""

    def make(folder: Path) -> None:
        names = ("optstudy", "tuning", "tests", "examples", "Makefile", "README.md", "LICENSE")
        for name in (*names, "CHANGELOG.md", "CITATION.cff", "pyproject.toml", ".gitignore"):
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns(*JUNK)
                )
            else:
                shutil.copy(ROOT / name, folder / name)
        for left in (
            "tuning/best/quick/sgd.json",
            "tuning/studies/quick/lock",
            "mlruns/mlflow.db",
            "notes.txt",
        ):
            (folder / left).parent.mkdir(parents=True, exist_ok=True)
            (folder / left).write_text("left by somebody")

    return once("source", make)


@pytest.fixture(scope="session")
def built(source: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A folder with the sdist, the wheel made from it, and in `direct` the wheel made from the project."""

    def make(folder: Path) -> None:
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
        run([*build, str(folder)], source)
        run([*build, str(folder / "direct"), "--wheel"], source)

    return once("built", make)


@pytest.fixture(scope="session")
def installed(built: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A folder in which the wheel is installed, beside the environment's own packages."""

    def make(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        run([*pip, "--target", str(folder), str(one(built, "*.whl"))], folder)

    return once("installed", make)


def one(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def contents(wheel: Path) -> dict[str, int]:
    """Checksum of each file of a wheel, but for the list of its files."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            info.filename: info.CRC for info in archive.infolist() if not info.filename.endswith("RECORD")
        }


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder.parent)) for path in folder.rglob("*") if path.is_file()}


def test_wheel_holds_the_package_with_data_licence_spaces_and_presets(source: Path, built: Path) -> None:
    names = {name for name in contents(one(built, "*.whl")) if ".dist-info/" not in name}

    tuning = {
        f"optstudy/_tuning/{part}/{path.name}"
        for part in ("spaces", "presets")
        for path in (source / "tuning" / part).iterdir()
    }
    assert names == files_below(source / "optstudy") | tuning
    assert {*MNIST, "optstudy/workloads/LICENSE-MNIST.md", "optstudy/py.typed"} <= names
    assert {"optstudy/_tuning/spaces/sgd.toml", "optstudy/_tuning/presets/quick.toml"} <= names


def test_wheel_made_from_the_sdist_is_the_wheel_made_from_the_project(built: Path) -> None:
    assert contents(one(built, "*.whl")) == contents(one(built / "direct", "*.whl"))


def test_sdist_takes_nothing_that_a_person_or_a_study_left(built: Path) -> None:
    with tarfile.open(one(built, "*.tar.gz")) as archive:
        paths = [Path(name).parts[1:] for name in archive.getnames()]

    assert not [path for path in paths if JUNK & {*path} or path[-1] == "notes.txt"]
    assert ("README.md",) in paths
    assert ("tests", "test_packaging.py") in paths


def test_installed_wheel_lists_its_own_optimizers(installed: Path, tmp_path: Path) -> None:
    listed = run(
        [str(installed / "bin" / "optstudy"), "optimizers", "--json"], tmp_path, PYTHONPATH=str(installed)
    )

    sources = {space["name"]: Path(space["source"]) for space in json.loads(listed)}
    assert {"sgd", "adagrad", "adam", "adahessian", "adamw", "rmsprop", "nadam", "radam"} <= sources.keys()
    assert {path.parent for path in sources.values()} == {installed / "optstudy" / "_tuning" / "spaces"}


@pytest.mark.slow
def test_installed_wheel_runs_a_study_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    short = ["--seeds", "1", "--samples", "0"]
    command = [str(installed / "bin" / "optstudy"), "study", "--preset", "smoke", "--json", *short]

    rows = json.loads(run(command, tmp_path, PYTHONPATH=str(installed)))["rows"]

    assert [(row["optimizer"], row["seeds"]) for row in rows] == [("sgd", 1), ("adahessian", 1)]
    assert (tmp_path / "tuning" / "best" / "smoke" / "adahessian.json").exists()
