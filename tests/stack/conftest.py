"""The servers of compose.yaml, started once for each process of tests that needs them."""

from collections.abc import Iterator

import pytest
from stack.composed import Project, project
from stack.servers import Stack, served


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """compose.yaml as it is read after `make secrets`."""
    return project(tmp_path_factory.mktemp("compose"))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """PostgreSQL and MLflow, running; each process of pytest-xdist has its own, since none outlives the others."""
    with served() as servers:
        yield servers
