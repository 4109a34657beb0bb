"""`optstudy ui` serves the workspace's own store to this machine, prints where to look, and leaves nothing behind."""

import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
import tiny
from commands import Run

from optstudy.records.location import Location
from optstudy.tracking import server
from optstudy.tracking.server import links


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


def serving(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_ended(port: int) -> None:
    for _ in range(300):  # its processes were told to end, and may take a moment
        if not serving(port):
            break
        time.sleep(0.1)
    assert not serving(port)


def fetched(address: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  # our own server
        return answer.status, answer.read()


def asked(port: int, host: str, address: str = "127.0.0.1", **headers: str) -> tuple[int, bytes]:
    """Ask for the experiments as a page that reached the server under the name ``host``."""
    body = b'{"max_results": 10}'
    with closing(http.client.HTTPConnection(address, port, timeout=30)) as connection:
        connection.putrequest("POST", "/ajax-api/2.0/mlflow/experiments/search", skip_host=True)
        sent = {"Host": host, "Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()


FOREIGN = [
    *(f"{private}.evil.example" for private in ("10.0.0.1", "192.168", "172.16", "127.0.0.1", "localhost")),
    *("evil.example", "localhost:1", "127.0.0.1:80", "localhost:80.evil.example", "10.0.0.1", ""),
]


def check_names(port: int, *names: str, address: str = "127.0.0.1") -> None:
    """Check that the server answers to these names of this machine, and to no other."""
    for name in names:
        for host in (name, f"{name}:{port}"):
            status, data = asked(port, host, address)
            assert (status, b"tiny/final" in data) == (200, True), host
    for foreign in FOREIGN:
        for host in (foreign, *([f"{foreign}:{port}"] if foreign and ":" not in foreign else [])):
            status, data = asked(port, host, address)
            assert (status, b"tiny" in data) == (403, False), host
    for origin in ("http://evil.example", f"http://10.0.0.1.evil.example:{port}", "null"):
        assert asked(port, f"localhost:{port}", address, Origin=origin)[0] == 403


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """Run `optstudy ui` until the block ends; yields the process, and its notes until the links are there."""
    shown = tiny.start(["ui", *arguments], folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert shown.stdout is not None
    assert shown.stderr is not None
    with shown, shown.stdout, shown.stderr, ExitStack() as ending:
        ending.callback(shown.kill)  # also if what follows fails, which would wait for it for ever
        notes: list[str] = []
        for line in shown.stderr:
            if "Ctrl-C stops the server" in line:
                break
            notes.append(line)
        yield shown, notes


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_server_answers_where_the_links_point_and_ends_on_a_signal(
    how: signal.Signals, finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")  # of another server of the user's
    with served(finished_copy, "--port", str(port)) as (shown, notes):
        assert notes == []
        assert shown.stdout is not None
        found = dict(line.strip().split(": ", 1) for line in (shown.stdout.readline() for _ in range(4)))

        assert list(found) == ["final runs", "trials", "compare", "compare a seed of each"]
        for link in found.values():
            assert link.startswith(f"http://127.0.0.1:{port}/#/")
            assert fetched(link.split("#")[0])[0] == 200
        assert fetched(f"http://127.0.0.1:{port}/health") == (200, b"OK")
        check_names(port, "localhost", "127.0.0.1")

        os.kill(shown.pid, how)
        assert shown.wait() == 0
        assert shown.stdout.read() == ""

    check_ended(port)


@pytest.mark.slow
def test_a_server_ends_with_a_command_that_is_killed_and_imports_nothing_from_the_current_folder(
    finished_copy: Path,
) -> None:
    port = free_port()
    for name in ("uvicorn", "flask"):  # of the server's imports
        (finished_copy / f"{name}.py").write_text("raise SystemExit('imported')")
    with served(finished_copy, "--port", str(port)) as (shown, notes):
        assert notes == []
        assert serving(port)

        shown.kill()

    check_ended(port)


@pytest.mark.slow
def test_the_server_also_answers_to_the_address_that_it_was_told_to_listen_on(finished_copy: Path) -> None:
    port = free_port()
    with served(finished_copy, "--port", str(port), "--host", "127.0.0.2") as (shown, _):
        assert shown.stdout is not None
        assert shown.stdout.readline().startswith(f"final runs: http://127.0.0.2:{port}/#/")
        assert not serving(port)  # on 127.0.0.1
        check_names(port, "localhost", "127.0.0.1", "127.0.0.2", address="127.0.0.2")

        os.kill(shown.pid, signal.SIGINT)
        assert shown.wait() == 0


@pytest.mark.parametrize(
    "host",
    ["0", "0.0.0.0", "::", "*", "", "10.*", "localhost,evil.example", "192.0.2.1"],  # noqa: S104  # refused
)
def test_an_address_that_is_not_one_of_this_machine_is_refused(
    host: str, run: Run, finished_copy: Path
) -> None:
    ended = run("ui", "--host", host)

    assert ended.status == 2
    assert ended.line == (
        f"optstudy: --host is {host!r}; give one address or name of this machine, as others reach it"
    )


def test_before_others_are_let_in_the_command_says_that_there_is_no_password(
    run: Run, finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "check_server", lambda *_: None)  # it would refuse the address of no machine
    monkeypatch.setattr(server, "run_server", stop)

    ended = run("ui", "--host", "192.0.2.1")

    assert ended.err.splitlines()[0] == (
        "note: there is no password: whoever reaches 192.0.2.1:5000 can read and change all runs"
    )


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


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EADDRINUSE, "is taken"),
        (errno.EACCES, "is for the administrator alone"),
        (errno.EINVAL, "cannot be listened on (Invalid argument)"),
    ],
)
def test_a_port_that_cannot_be_listened_on_is_refused_with_the_reason(
    number: int, why: str, run: Run, finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refused)

    ended = run("ui", "--port", "80")

    assert ended.status == 2
    assert ended.line == f"optstudy: port 80 {why}; choose another with --port"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sqlite:////other.db", "sqlite:////other.db"),
        ("postgresql://me:secret@host/runs", "postgresql://host/runs"),
    ],
)
def test_a_database_that_is_not_the_workspaces_own_is_not_taken_for_it(
    address: str, shown: str, run: Run, finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

    ended = run("ui")

    assert ended.status == 2
    assert ended.line == (
        f"optstudy: {shown} is no address of a web page; start a server on it"
        " (mlflow server --backend-store-uri URI), and give the server's address to --tracking-uri"
    )
