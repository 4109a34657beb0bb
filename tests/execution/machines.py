"""A Ray cluster of processes on this machine, whose nodes can be lost."""

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# On this machine's loopback address alone; nodes that are lost are noticed within seconds.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
HEALTH = {"health_check_period_ms": 500, "health_check_initial_delay_ms": 0}


class Machines:
    """A Ray cluster of processes on this machine, its head without cores."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder  # a short path, since the names of sockets are limited
        self.cluster: Any = Cluster(shutdown_at_exit=True)
        self.add(num_cpus=0, include_dashboard=False, _system_config=HEALTH)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, **settings: Any) -> Any:
        """Let a node join."""
        return self.cluster.add_node(node_ip_address="127.0.0.1", temp_dir=str(self.folder), **settings)

    def lose(self, node: Any) -> None:
        """Kill a node as a power cut would."""
        os.kill(raylet(node), signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)

    def remove(self, *nodes: Any) -> None:
        for node in nodes:
            if node in self.cluster.worker_nodes:
                self.cluster.remove_node(node)


def raylet(node: Any) -> int:
    """Process number of the part of a node that starts its workers."""
    return int(node.all_processes["raylet"][0].process.pid)


def actors(node: Any) -> list[int]:
    """Process numbers of a node's workers that belong to optstudy."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            name = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if int(parent) == raylet(node) and name.startswith(b"ray::_Actor"):
            found.append(int(folder.name))
    return found


def until(ready: Callable[[], object]) -> None:
    while not ready():
        time.sleep(0.02)


@contextlib.contextmanager
def cluster() -> Iterator[Machines]:
    """Start a cluster that asks for a token, without a node that works."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short
    with pytest.MonkeyPatch.context() as patch:
        (folder / "token").write_text(secrets.token_hex(32))
        safe = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        # Where Ray notes the newest cluster of a machine, in a folder that it does not make.
        (folder / "ray").mkdir()
        for name, value in {**SETTINGS, **safe, "RAY_TMPDIR": str(folder)}.items():
            patch.setenv(name, value)
        made = Machines(folder)
        yield made
        made.cluster.shutdown()
    shutil.rmtree(folder)
