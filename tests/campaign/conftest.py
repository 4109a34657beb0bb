"""The study that nothing befell, and one that something will."""

import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
from campaign.subject import Subject, files, findings
from outcomes import outcome

from optstudy.tracking import embedded


@dataclass(frozen=True)
class LeftAlone:
    """What the finished study left."""

    outcome: Mapping[str, Any]
    files: set[str]


@pytest.fixture(scope="session")
def left_alone(finished: Path) -> LeftAlone:
    return LeftAlone(outcome(finished), files(finished, finished))


@pytest.fixture
def subject(empty_store: Path, tmp_path: Path, left_alone: LeftAlone) -> Subject:
    """A study that is about to begin."""
    folder = Path(shutil.copytree(empty_store, tmp_path / "workspace"))
    tiny.write(folder)
    return Subject(folder, len(left_alone.files))


@pytest.fixture
def examine(
    left_alone: LeftAlone, count: Callable[[str, str, Mapping[str, int]], None]
) -> Callable[..., None]:
    """Compare what a study left with what it leaves if left alone, and count it; there may be no difference."""

    def examined(
        row: str,
        subject: Subject,
        *,
        uri: str | None = None,
        select: Callable[[str], int] | None = None,
    ) -> None:
        asked = select or sqlite(subject.folder)
        found = findings(subject, left_alone.outcome, left_alone.files, uri, asked)
        count("campaign", row, {"blows": subject.blows, **found})
        assert not any(found.values()), found

    return examined


def sqlite(workspace: Path) -> Callable[[str], int]:
    """Ask a workspace's store for a number."""

    def select(query: str) -> int:
        with closing(sqlite3.connect(embedded.database(workspace))) as connection:
            return int(connection.execute(query).fetchone()[0])

    return select


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with which a process has a clock that can be set back."""
    built = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return built
