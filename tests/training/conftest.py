"""Every test here works in the folder of a user with a model and a data set of their own."""

from collections.abc import Iterator
from pathlib import Path

import cases
import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(autouse=True)
def project(folder: Path) -> Iterator[None]:
    with cases.project(folder):
        yield
