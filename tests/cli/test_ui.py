"""`optstudy ui` serves the workspace's own store, prints where to look, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import unquote

import pytest
import tiny
from commands import Run

from optstudy.records.location import Location
from optstudy.tracking.server import links


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


def serving(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fetched(address: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  # our own server
        return answer.status, answer.read()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_server_answers_where_the_links_point_and_ends_on_a_signal(
    how: signal.Signals, finished_copy: Path
) -> None:
    port = free_port()
    shown = tiny.start(
        ["ui", "--port", str(port)], finished_copy, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert shown.stdout is not None
    assert shown.stderr is not None
    with shown, shown.stdout, shown.stderr, ExitStack() as ending:
        ending.callback(shown.kill)  # also if what follows fails, which would wait for it for ever
        assert "Ctrl-C stops the server" in shown.stderr.readline()
        found = dict(line.strip().split(": ", 1) for line in (shown.stdout.readline() for _ in range(4)))

        assert list(found) == ["final runs", "trials", "compare", "compare a seed of each"]
        for link in found.values():
            assert link.startswith(f"http://127.0.0.1:{port}/#/")
            assert fetched(link.split("#")[0])[0] == 200
        assert fetched(f"http://127.0.0.1:{port}/health") == (200, b"OK")

        os.kill(shown.pid, how)
        assert shown.wait() == 0
        assert shown.stdout.read() == ""

    for _ in range(300):  # its processes were told to end, and may take a moment
        if not serving(port):
            break
        time.sleep(0.1)
    assert not serving(port)


def test_the_links_choose_the_studys_final_runs(finished_copy: Path) -> None:
    found = dict(links("http://host", Location(finished_copy), "tiny"))

    address, _, query = unquote(found["compare"]).partition("?")
    chosen = re.fullmatch(r"runs=(\[.*\])&experiments=(\[.*\])&workflowType=machine_learning", query)
    assert address == "http://host/#/compare-runs"
    assert chosen is not None
    runs, experiments = map(json.loads, chosen.groups())
    assert len(set(runs)) == 4
    [experiment] = experiments
    listed = f"http://host/#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert found["final runs"] == f"{listed}&viewStateShareKey=optstudy"


def test_a_taken_port_is_refused(run: Run, finished_copy: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        ended = run("ui", "--port", str(port))

    assert ended.status == 2
    assert ended.line == f"optstudy: port {port} is taken; choose another with --port"
