"""The servers of compose.yaml, started once for each process of tests that needs them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack.composed import Project, project
from stack.servers import Stack, postgresql, started


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """compose.yaml as it is read after `make secrets`."""
    return project(tmp_path_factory.mktemp("compose"))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """PostgreSQL and MLflow, running; each process of pytest-xdist has its own, since none outlives the others."""
    postgresql()
    with tempfile.TemporaryDirectory(
        prefix="optstudy-"
    ) as name:  # PostgreSQL's user enters no folder of pytest's
        folder = Path(name)
        folder.chmod(0o755)
        with started(project(folder)) as servers:
            yield servers
