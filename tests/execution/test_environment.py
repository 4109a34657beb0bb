"""What a study records of its code and packages is true."""

import hashlib
import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from optstudy.execution.environment import gather_provenance


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *who, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a user's repository with one commit."""
    (tmp_path / "net.py").write_text("a = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "net.py")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_working_folders_commit_is_named_and_whether_its_tree_was_clean(repository: Path) -> None:
    clean = gather_provenance().environment
    (repository / "net.py").write_text("a = 2\n")

    assert clean["commit"] == git(repository, "rev-parse", "HEAD")
    assert (clean["tree"], gather_provenance().environment["tree"]) == ("clean", "changed")


def test_outside_a_repository_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert not {"commit", "tree"} & gather_provenance().environment.keys()


def test_an_image_says_which_commit_it_was_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTSTUDY_COMMIT", "abc123")

    assert gather_provenance().environment["optstudy_commit"] == "abc123"


def test_a_lock_is_named_only_where_its_versions_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements.lock"
    monkeypatch.setenv("OPTSTUDY_LOCK", str(lock))
    followed = f"torch=={importlib.metadata.version('torch')} \\\n    --hash=sha256:00\nnot-installed==1.0\n"

    lock.write_text(followed)
    named = gather_provenance().environment.get("lock")
    lock.write_text(followed + "click==0.0.1\n")
    departed = gather_provenance().environment.get("lock")

    assert named == hashlib.sha256(followed.encode()).hexdigest()[:16]
    assert departed is None
