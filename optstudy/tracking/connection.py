"""A connection to MLflow: retries while the server is unreachable, and explanations of its refusals."""

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds

from optstudy.errors import OptstudyError, UsageError, first_line
from optstudy.records.io import find_unwritten
from optstudy.tracking.embedded import database_error, database_path

T = TypeVar("T")
PATIENCE = 60.0  # seconds for which calls are retried in total
LONGEST_SILENCE = 20.0  # seconds until a request is repeated
CREDENTIALS = "~/.mlflow/credentials"  # where MLflow's client reads the user and password

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_CLIENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # MLflow's own retries take four minutes to give up
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

_INTERRUPTING = (signal.SIGINT, signal.SIGTERM)
_UNREACHABLE = (
    TimeoutError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.RetryError,  # MLflow's client received 429, 500, 502, 503 or 504; its own retries are off
)

# Of MLflow's exceptions about what its database raised; others refuse a request.
_DATABASE_FAILURES = ("BAD_REQUEST", "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")

for _name in ("alembic", "mlflow"):
    logging.getLogger(_name).setLevel(logging.WARNING)
# It logs the tracebacks of exceptions that it raises, too.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


class Connection:
    """MLflow's client, with retries while the server is unreachable."""

    def __init__(self, uri: str, patience: float) -> None:
        """Connect to ``uri``; calls are retried for ``patience`` seconds.

        With a longer ``MLFLOW_HTTP_REQUEST_TIMEOUT`` in the environment, calls are retried for that time.

        Raises:
            UsageError: If that is no number.
        """
        for name, value in _CLIENT_DEFAULTS.items():
            os.environ.setdefault(name, value)
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri)
        self._patience = max(patience, _users_timeout())
        self._gave_up = False
        self._has_server = urlsplit(uri).scheme in ("http", "https")
        self._database = database_path(uri)  # None if a server holds the runs
        self._place = str(self._database or hide_credentials(uri))

    def call(self, method: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call one of the client's methods; a server has the patience for its whole answer.

        Raises:
            OptstudyError: If MLflow refuses the call, or is unreachable for too long.
        """
        return self._retry(
            _within if self._has_server else _undisturbed, lambda: method(*arguments, **options)
        )

    def transfer(self, method: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call one of the client's methods that transfer files, which may take longer, as long as bytes arrive.

        Raises:
            OptstudyError: If MLflow refuses the call, or is unreachable for too long.
        """
        return self._retry(
            _at_leisure if self._has_server else _undisturbed, lambda: method(*arguments, **options)
        )

    def _retry(self, attempt: Callable[[Callable[[], T], float], T], request: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._patience
        failure: Exception | None = None
        while not self._gave_up and (left := deadline - time.monotonic()) > 0:
            try:
                with _request_timeout(left):
                    return attempt(request, left)
            except (MlflowException, OSError) as error:  # of requests, too
                if unwritten := find_unwritten(error, self._place):
                    raise unwritten from error
                if self._database is not None and getattr(error, "error_code", "") in _DATABASE_FAILURES:
                    raise database_error(self._database, error) from error
                if not _unreachable(error):
                    raise OptstudyError(
                        f"MLflow at {hide_credentials(self.uri)} {_refusal(self.uri, error)}"
                    ) from error
                failure = error
            except Exception as error:
                if self._database is None:
                    raise
                raise database_error(self._database, error) from error  # MLflow explains few of them
            time.sleep(max(0.0, min(2.0, self._patience / 10, deadline - time.monotonic())))
        self._gave_up = True  # a study that closes many runs on its way out does not wait for each
        raise OptstudyError(
            f"the tracking server {hide_credentials(self.uri)} has not answered for {self._patience:.0f} s;"
            " start it and rerun the command: nothing finished is lost"
        ) from failure


def _at_leisure(request: Callable[[], T], _: float) -> T:
    return request()


def _undisturbed(request: Callable[[], T], _: float) -> T:
    """Return the answer of a database; SIGINT and SIGTERM wait for it.

    The exception of a signal would leave a transaction open, so that the runs could not be closed as interrupted.
    """
    if threading.current_thread() is not threading.main_thread():  # where no signal raises
        return request()
    arrived: list[int] = []
    before = {kind: signal.signal(kind, lambda kind, _: arrived.append(kind)) for kind in _INTERRUPTING}
    try:
        return request()
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def _within(request: Callable[[], T], seconds: float) -> T:
    """Return the answer to a request.

    A timeout of requests ends only silence: a server that sends a byte now and then would be waited for without end.

    Raises:
        TimeoutError: If the answer takes longer than ``seconds``; the request then is abandoned.
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(request())
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer.result(seconds)


def _users_timeout() -> int:
    text = os.environ.get(_TIMEOUT, "0")
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{_TIMEOUT} is {text!r}; give a whole number of seconds") from error


@contextlib.contextmanager
def _request_timeout(seconds: float) -> Iterator[None]:
    """Limit the silence of a server during a request, unless the user has set a limit."""
    if _TIMEOUT in os.environ:
        yield
        return
    os.environ[_TIMEOUT] = str(math.ceil(min(seconds, LONGEST_SILENCE)))  # a whole number
    try:
        yield
    finally:
        os.environ.pop(_TIMEOUT, None)


def hide_credentials(uri: str) -> str:
    """Remove user and password from a URI."""
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return uri.replace(user + at, "", 1)  # urlunsplit would drop slashes of sqlite:///


def _refusal(uri: str, error: BaseException) -> str:
    """Describe why a server refused a request, and the remedy."""
    status, why = _status(error), first_line(error)
    if status == HTTPStatus.UNAUTHORIZED:
        return _unauthorized(uri)
    if status == HTTPStatus.FORBIDDEN and "Host header" in why:
        host = urlsplit(uri).hostname
        return (
            f"does not accept the host name {host}: use a name that it was started for, such as http://localhost:PORT,"
            f" or start it with --allowed-hosts naming {host} with and without port"
        )
    if status == HTTPStatus.FORBIDDEN:
        return f"refused: {_user(uri) or 'this user'} may not do that: {why}"
    return f"refused: {why}"


def _unauthorized(uri: str) -> str:
    user = _user(uri)
    if user is None and (reason := _read_error(Path(CREDENTIALS).expanduser())):
        return f"requires a user and a password, and {CREDENTIALS} cannot be read: {reason}"
    if user is None:
        return (
            f"requires a user and a password: write them to {CREDENTIALS}, as lines [mlflow],"
            " mlflow_tracking_username = USER and mlflow_tracking_password = PASSWORD, or set"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    source = "MLFLOW_TRACKING_PASSWORD" if os.environ.get("MLFLOW_TRACKING_PASSWORD") else CREDENTIALS
    source = "its address" if urlsplit(uri).username else source
    return f"rejected user {user!r} with the password in {source}; correct them"


def _read_error(file: Path) -> str | None:
    """Return why a file cannot be read, which MLflow's client ignores; None if it is readable or missing."""
    try:
        file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
    return None


def _user(uri: str) -> str | None:
    """Return the user name that MLflow's client sends; None without a name or a password."""
    credentials = read_mlflow_creds()
    if credentials.username and credentials.password:
        return str(credentials.username)
    return urlsplit(uri).username


def _status(error: BaseException) -> int:
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    exception: Any = error
    return int(exception.get_http_status_code()) if isinstance(error, MlflowException) else 0


def _unreachable(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, _UNREACHABLE):
            return True
        response = getattr(error, "response", None)
        if response is not None and getattr(response, "status_code", 0) in (502, 503, 504):
            return True
        error = error.__cause__ or error.__context__
    return False
