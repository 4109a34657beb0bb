"""MLflow's web interface for the embedded store, by default on the loopback address."""

import contextlib
import errno
import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from optstudy.errors import OptstudyError, UsageError, suggestion
from optstudy.records.location import Location
from optstudy.records.run import FinalRun
from optstudy.tracking import embedded, keeper
from optstudy.tracking.connection import hide_credentials
from optstudy.tracking.stores import open_existing

_WORKFLOW = "workflowType=machine_learning"  # else MLflow opens its pages for language models

STARTUP = 90.0  # seconds; it takes about 7, more on a busy machine
LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def run_server(
    workspace: Path, port: int, host: str = LOOPBACK
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a server on the workspace's store; it is ready on entry and stopped on exit.

    Call `check_server` before. The server answers requests to ``host`` and to the names of the loopback address; MLflow
    would also answer those to any name that begins like a private address, such as ``10.0.0.1.example.com``, which may
    be anybody's page.

    Yields:
        The server's address, and its process.

    Raises:
        OptstudyError: If the server does not start.
    """
    options = {
        "--backend-store-uri": embedded.uri(workspace),
        "--default-artifact-root": embedded.artifacts(workspace).as_uri(),
        "--host": host,
        "--port": str(port),
        "--allowed-hosts": ",".join(_allowed_hosts(host, port)),
        "--workers": "1",
    }
    python = [sys.executable, "-P"]  # without modules of the current folder
    words = ["-m", "mlflow", "server", *(word for option in options.items() for word in option)]
    with subprocess.Popen(  # noqa: S603  # this interpreter and our own paths
        [*python, keeper.__file__, *python, *words],
        env=_environment(),
        cwd="/",  # where uvicorn looks for modules first
        stdin=subprocess.PIPE,  # which closes with this process, however it ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # its child processes are stopped as a group
    ) as server:
        address = f"http://{_in_url(host)}:{port}"
        try:
            _wait_for(server, address)
            yield address, server
        finally:
            _stop(server)


def is_loopback(host: str) -> bool:
    """Whether a host is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_uri(location: Location) -> str | None:
    """Return the address of the MLflow server with the runs; None if they are in the workspace's own store.

    Raises:
        UsageError: If they are elsewhere, such as in a database, which has no pages.
    """
    uri = location.uri
    if uri and not uri.startswith(("http://", "https://")):
        raise UsageError(
            f"{hide_credentials(uri)} is no address of a web page; start a server on it"
            " (mlflow server --backend-store-uri URI), and give the server's address to --tracking-uri"
        )
    return uri


def links(address: str, location: Location, study: str | None) -> list[tuple[str, str]]:
    """Return links by title: a study's final runs, its trials, and comparisons of final runs.

    Raises:
        UsageError: If the study does not exist.
    """
    tracking = open_existing(location)
    known = tracking.studies()
    name = study or (known[-1] if known else None)
    tracking.check_not_deleted([name] if name else tracking.deleted_studies())
    if name is None:
        return [("all experiments", address)]
    if name not in known and not tracking.experiment_ids(name):
        raise UsageError(f"no study {name!r} in {tracking.shown_uri}{suggestion(name, known)}")
    ids = tracking.experiment_ids(name)
    pages = []
    for kind, text in (("final", "final runs"), ("tuning", "trials")):
        if kind in ids:
            view = tracking.view_key(ids[kind])
            shared = f"&viewStateShareKey={view}" if view else ""  # an unknown key would open another page
            pages.append((text, f"{address}/#/experiments/{ids[kind]}/runs?{_WORKFLOW}{shared}"))
    runs = tracking.final_runs([name])[0]
    first_seeds = {(run.optimizer, run.config): run for run in sorted(runs, key=lambda run: -run.seed)}
    if runs:
        pages.append(("compare", _comparison_link(address, ids["final"], runs)))
    if 1 < len(first_seeds) < len(runs):
        pages.append(
            ("compare a seed of each", _comparison_link(address, ids["final"], list(first_seeds.values())))
        )
    return pages or [("all experiments", address)]


def _comparison_link(address: str, experiment: str, runs: Sequence[FinalRun]) -> str:
    run_ids, experiments = quote(json.dumps([run.run_id for run in runs])), quote(json.dumps([experiment]))
    return f"{address}/#/compare-runs?runs={run_ids}&experiments={experiments}&{_WORKFLOW}"


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Stop a server and its child processes: by SIGTERM, then by SIGKILL, since it waits for open connections."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)


def _environment() -> dict[str, str]:
    """Return the server's environment, without settings of the user's own servers, such as an open list of hosts."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_SERVER_")}
    ours = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**inherited, **ours, "PYTHONSAFEPATH": "1"}  # for the processes that the server starts


def _allowed_hosts(host: str, port: int) -> list[str]:
    """Return the values of a request's Host header that are answered."""
    names = dict.fromkeys(map(_in_url, ("localhost", LOOPBACK, "::1", host.lower())))  # as browsers send it
    return [allowed for name in names for allowed in (name, f"{name}:{port}")]


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def check_server(location: Location, port: int, host: str = LOOPBACK) -> None:
    """Check that `run_server` can run; artifact paths of a workspace that was moved are updated.

    Raises:
        UsageError: If there is no store, or the server cannot listen on the host and port.
        OptstudyError: If the store cannot be read.
    """
    tracking = open_existing(location)
    tracking.final_runs(tracking.studies()[-1:])  # MLflow's server would start on a damaged database
    _check_listening(host, port)


def _check_listening(host: str, port: int) -> None:
    advice = f"--host is {host!r}; give one address or name of this machine, as others reach it"
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", host):  # such as a pattern or a list, which MLflow would take
        raise UsageError(advice)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(advice) from error
    if ipaddress.ip_address(address[0]).is_unspecified:  # all addresses, by no name of their own
        raise UsageError(advice)
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise UsageError(advice) from error
            reasons = {
                errno.EADDRINUSE: "is taken",
                errno.EACCES: "is for the administrator alone",
            }
            reason = reasons.get(error.errno or 0, f"cannot be listened on ({error.strerror})")
            raise UsageError(f"port {port} {reason}; choose another with --port") from error


def _wait_for(server: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + STARTUP
    while not _is_ready(address):
        if server.poll() is not None:
            raise OptstudyError(f"the MLflow server exited immediately with status {server.returncode}")
        if time.monotonic() > deadline:
            raise OptstudyError(f"the MLflow server did not answer within {STARTUP:.0f} s")
        time.sleep(0.2)


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2):  # noqa: S310  # our own http address
            return True
    except (urllib.error.URLError, OSError):
        return False
