"""A browser for tests of pages, and `optstudy ui` on a finished study."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from socket import create_server

import pytest
import tiny
from pages.browser import started
from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, started once for each process of tests."""
    with started() as running:
        yield running


@pytest.fixture(scope="session")
def studied(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished study's workspace, for the interface alone."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("pages") / "workspace"))


@pytest.fixture(scope="session")
def links(
    browser: Browser, studied: Path
) -> Iterator[Mapping[str, str]]:  # the browser first: it may be absent
    """What `optstudy ui` prints, by name, while it runs."""
    with closing(create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    shown = tiny.start(["ui", "--port", str(port)], studied, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert shown.stdout is not None
    assert shown.stderr is not None
    with shown, shown.stdout, shown.stderr, ExitStack() as ending:
        ending.callback(os.kill, shown.pid, signal.SIGINT)
        for line in shown.stderr:
            if "Ctrl-C stops the server" in line:
                break
        yield dict(line.strip().split(": ", 1) for line in (shown.stdout.readline() for _ in range(4)))
