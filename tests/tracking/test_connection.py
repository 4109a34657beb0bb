"""Calls are retried while the server is unreachable; then one line names it, without its password."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
from finals import final_run
from sqlalchemy.orm import Session

from optstudy.errors import OptstudyError, UsageError
from optstudy.records.checksums import RunContent
from optstudy.records.location import Location
from optstudy.tracking import (
    Tracking,
    hide_credentials,
    open_tracking,
)
from optstudy.tracking.evidence import read_predictions


def test_an_unreachable_server_is_one_line_without_its_password() -> None:
    tracking = Tracking(f"http://me:secret@127.0.0.1:{free_port()}/base", patience=0.3)

    with pytest.raises(OptstudyError) as raised:
        tracking.studies()

    assert str(raised.value) == (
        f"the tracking server {tracking.shown_uri} has not answered for 0 s; start it and rerun the command:"
        " nothing finished is lost"
    )
    assert "secret" not in str(raised.value)


def test_a_silent_server_is_one_line() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        tracking = Tracking(f"http://127.0.0.1:{mute.getsockname()[1]}", patience=0.3)

        with pytest.raises(OptstudyError, match="has not answered for 0 s"):
            tracking.studies()


def test_a_server_that_sends_a_byte_now_and_then_is_given_up() -> None:
    """It is never silent for long, so that no timeout of a socket would end the request."""
    with dripping() as uri, pytest.raises(OptstudyError, match="has not answered for 1 s"):
        Tracking(uri, patience=0.6).studies()


def test_files_may_take_longer_than_the_patience(tmp_path: Path) -> None:
    connection, slow = Tracking("http://127.0.0.1:9", patience=0.1)._connection, threading.Event()
    threading.Timer(0.3, slow.set).start()

    assert connection.transfer(slow.wait)


def test_no_request_may_be_silent_for_longer_than_the_patience_that_is_left() -> None:
    limits: list[int] = []

    def silent() -> None:
        limits.append(int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]))
        raise requests.Timeout

    for patience in (0.3, 1.5):
        with pytest.raises(OptstudyError):
            Tracking("http://127.0.0.1:9", patience=patience)._connection.call(silent)
    Tracking("http://127.0.0.1:9", patience=60.0)._connection.call(
        lambda: limits.append(int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]))
    )

    assert limits[0] == 1
    assert set(limits[:-1]) == {1, 2}
    assert limits[-1] == 20
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_the_users_own_timeout_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    connection, limits = Tracking("http://127.0.0.1:9", patience=0.1)._connection, []

    def silent() -> None:
        limits.append(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
        raise requests.Timeout

    with pytest.raises(OptstudyError, match="has not answered for 1 s"):
        connection.call(silent)

    assert set(limits) == {"1"}
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    with pytest.raises(
        UsageError, match="^MLFLOW_HTTP_REQUEST_TIMEOUT is 'soon'; give a whole number of seconds$"
    ):
        open_tracking(Location(tracking_uri="http://127.0.0.1:9"))


def test_a_server_that_recovers_in_time_is_no_error() -> None:
    with answering([503, 502, 200]) as (uri, statuses):
        assert Tracking(uri, patience=30.0).studies() == []

    assert statuses == []


def test_after_giving_up_once_no_call_is_tried() -> None:
    """A study that closes many runs on its way out must not wait a minute for each."""
    tracking = Tracking("http://127.0.0.1:9", patience=0.3)
    attempts = 0

    def silent() -> None:
        nonlocal attempts
        attempts += 1
        raise requests.ConnectionError

    with pytest.raises(OptstudyError):
        tracking._connection.call(silent)
    before = attempts
    with pytest.raises(OptstudyError):
        tracking._connection.call(silent)

    assert before > 1
    assert attempts == before


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_transaction_of_a_database(
    kind: signal.Signals, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the database stays locked for the calls that close what is open."""
    tracking, _ = open_tracking(Location(store_folder))
    run_id = tracking._connection.call(tracking._client.create_run, "0").info.run_id

    def interrupted(session: Session) -> None:
        session.flush()
        signal.raise_signal(kind)
        commit(session)

    commit, handler = Session.commit, signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Session, "commit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                tracking.set_tags(run_id, {"first": "1"})
        tracking.set_tags(run_id, {"second": "2"})
    finally:
        signal.signal(signal.SIGTERM, handler)

    assert {"first", "second"} <= tracking._client.get_run(run_id).data.tags.keys()


def test_a_refused_call_is_not_retried() -> None:
    with answering([403]) as (uri, statuses):
        with pytest.raises(OptstudyError, match=rf"^MLflow at {uri} refused: .*no entry$"):
            Tracking(uri, patience=30.0).studies()

        assert statuses == []


@pytest.mark.parametrize(
    ("status", "said"), [(503, "has not answered for 0 s"), (403, "refused: .*no entry")]
)
def test_a_failing_server_is_an_error_not_missing_predictions(status: int, said: str) -> None:
    with answering([status] * 100) as (uri, _), pytest.raises(OptstudyError, match=said):
        read_predictions(Tracking(uri, patience=0.3), final_run())


def test_interrupting_runs_ignores_an_unreachable_server() -> None:
    tracking = Tracking(f"http://127.0.0.1:{free_port()}", patience=0.1)
    tracking._open_runs["0" * 32] = RunContent()

    tracking.interrupt_open_runs()


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("http://me:secret@host:5000/x?y=1", "http://host:5000/x?y=1"),
        ("https://host", "https://host"),
        ("postgresql://me:p@ss@host/db", "postgresql://host/db"),
        ("sqlite:////work/mlflow.db", "sqlite:////work/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_user_and_password(uri: str, public: str) -> None:
    assert hide_credentials(uri) == public


def test_the_environment_names_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    assert open_tracking(Location(tmp_path))[0].shown_uri == "http://127.0.0.1:9"
    assert open_tracking(Location(tmp_path, "http://127.0.0.1:10"))[0].shown_uri == "http://127.0.0.1:10"
    assert list(tmp_path.iterdir()) == []


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def dripping() -> Iterator[str]:
    """Serve on loopback, answering each request with a header that never ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with contextlib.suppress(OSError):  # the server or the connection has been closed
                connection, _ = server.accept()
                threading.Thread(target=drip).start()
                with connection:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                    while not ended.wait(0.05):
                        connection.sendall(b"x")

        ended = threading.Event()
        threading.Thread(target=drip).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)


@contextmanager
def answering(statuses: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Serve on loopback, answering each request with the next status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.send_response(statuses.pop(0))
            self.end_headers()
            self.wfile.write(b'{"error_code": "PERMISSION_DENIED", "message": "no entry"}')

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", statuses
        finally:
            server.shutdown()
            thread.join()
