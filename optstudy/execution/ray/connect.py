"""Join a Ray cluster that requires a token, or raise an error with the reason."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from optstudy.errors import UsageError

TIMEOUT = 20.0  # seconds

_UNAUTHENTICATED = "it rejected the token"

_PROBE = (
    "import logging, sys, ray;"
    "ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)"
)


def join(address: str) -> Any:
    """Join a cluster that requires a token, and return the module ray.

    Raises:
        UsageError: If it cannot be joined, or accepts clients without a token.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    host, _, port = address.rpartition(":")
    if address != "auto" and (not host or "/" in host or not port.isdigit()):
        raise UsageError(f"--ray takes auto or HOST:PORT of a Ray cluster, not {address!r}")
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise UsageError(
            "anyone who can reach a Ray cluster without a token can run code on it: set"
            " RAY_AUTH_MODE=token on this machine and where the cluster is started, and RAY_AUTH_TOKEN_PATH to the"
            " file with its token"
        )
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--ray needs Ray: pip install 'optstudy[ray]'")
    problem = _probe(address, "token")
    if problem:
        raise UsageError(f"no Ray cluster could be joined at {address}: {problem}")
    problem = _probe(address, "disabled")
    if not problem:
        raise UsageError(
            f"the Ray cluster at {address} accepts clients without a token; restart it with RAY_AUTH_MODE=token"
        )
    if problem != _UNAUTHENTICATED:
        raise UsageError(
            f"the Ray cluster at {address} did not report whether it accepts clients without a token: {problem};"
            " run the same command again to retry"
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # else `uv run` sends the folder to each node
    import ray

    if ray.is_initialized():
        raise UsageError("this program has already joined a Ray cluster; call ray.shutdown() before a study")
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001  # else printed to stdout
    return ray


def _probe(address: str, mode: str) -> str:
    """Try to join in another process, which can be killed; return why it failed, or an empty string."""
    with subprocess.Popen(  # noqa: S603  # this interpreter, a constant program
        [sys.executable, "-c", _PROBE, address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": mode, "RAY_BACKEND_LOG_LEVEL": "warning"},
    ) as process:
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        assert process.stderr is not None
        line = ""
        try:
            for line in process.stderr:
                if "Unauthenticated" in line:
                    return _UNAUTHENTICATED
        finally:
            timer.cancel()
            process.kill()
    if process.returncode == -signal.SIGKILL:
        return f"no answer within {TIMEOUT:.0f} seconds"
    if process.returncode == 0:
        return ""
    last = line.strip().partition(". ")[0]
    return last.partition(": ")[2] or last or f"Ray ended with status {process.returncode}"
