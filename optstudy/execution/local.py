"""Where pure functions run: workers on this machine, each a process with a pipe of its own."""

import contextlib
import heapq
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, Self

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Failure, Task

ATTEMPTS = 3  # how often a task may take its worker down with it before it counts as failed
# What glibc's allocator is told: by default it gives the memory of each step's temporaries back to the system, and the
# next step faults it in again. Another C library does not read them.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",  # bytes of an allocation from which it is mapped by itself
    "MALLOC_TRIM_THRESHOLD_": "4294967296",  # bytes free at the top of the heap from which they are given back
}
WORKER_MARK = "OPTSTUDY_WORKER"  # set in a worker's environment


class LocalWorkers:
    """Processes on this machine. They end when the driver does, however it ends.

    They are started as fresh interpreters rather than by `multiprocessing`, which would run the caller's
    script again in each of them.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        """Start a worker for each of ``environments``, which are added to this process's own."""
        self._queue: list[tuple[float, int, Task]] = []
        self._busy: dict[Connection, tuple[int, Task]] = {}
        self._attempts: dict[int, int] = {}
        self._processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self._environments: dict[Connection, Mapping[str, str]] = {}
        self._idle: list[Connection] = []
        for environment in environments:
            self._start(environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def submit(self, ticket: int, task: Task) -> None:
        """Queue a task; an idle worker takes it at once."""
        heapq.heappush(self._queue, (-task.cost, ticket, task))
        self._hand_out()

    def next_result(self) -> tuple[int, Any]:
        """Wait for a task to end and give its worker the next one before returning."""
        while True:
            connection = wait(list(self._busy))[0]
            assert isinstance(connection, Connection)
            ticket, task = self._busy.pop(connection)
            try:
                result = connection.recv()
            except (EOFError, OSError):  # the worker died, perhaps in the middle of a message
                result = self._replace(connection, ticket, task)
                if result is None:
                    continue
            else:
                self._idle.append(connection)
            self._attempts.pop(ticket, None)
            self._hand_out()
            return ticket, result

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for connection, process in self._processes.items():
            connection.close()
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers."""
        return [process.pid for process in self._processes.values()]

    def _start(self, environment: Mapping[str, str]) -> None:
        ours, theirs = Pipe()
        process = subprocess.Popen(  # noqa: S603  # this interpreter, this module, a file descriptor
            # -P: the current folder may hold another optstudy than the driver's; `serve` adds it for the user's files.
            [
                sys.executable,
                "-P",
                "-c",
                "from optstudy.execution.local import serve; serve()",
                str(theirs.fileno()),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a user's model prints must not mix with the driver's tables and JSON
            env={**os.environ, **environment, WORKER_MARK: "1"},
        )
        theirs.close()
        self._processes[ours] = process
        self._environments[ours] = environment
        self._idle.append(ours)

    def _hand_out(self) -> None:
        while self._queue and self._idle:
            _, ticket, task = heapq.heappop(self._queue)
            connection = self._idle.pop()
            self._busy[connection] = (ticket, task)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # next_result notices
                connection.send(task)

    def _replace(self, dead: Connection, ticket: int, task: Task) -> Failure | None:
        process = self._processes.pop(dead)
        dead.close()
        process.kill()
        status = process.wait()
        self._start(self._environments.pop(dead))
        self._attempts[ticket] = self._attempts.get(ticket, 0) + 1
        if self._attempts[ticket] >= ATTEMPTS:
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            message = f"a worker died {ATTEMPTS} times at {task.name} (last by {how}); is memory short?"
            return Failure(message, message)
        self.submit(ticket, task)
        return None


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environments(
    device: str,
    threads: int,
    jobs: int | None = None,
    data_dir: str | Path | None = None,
    *,
    deterministic: bool = False,
) -> list[dict[str, str]]:
    """Return what to add to the environment of each worker; the user's own values for the allocator stay.

    Args:
        device: Where tensors live; with ``"cuda"`` each worker sees one GPU.
        threads: CPU threads of a worker.
        jobs: Workers; by default one a core that this process may use, or one a visible GPU.
        data_dir: Folder of data sets that do not ship with the package.
        deterministic: Whether runs are; cuBLAS then needs to be told before CUDA starts.
    """
    common = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    common |= {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()}
    if data_dir is not None:
        common["OPTSTUDY_DATA_DIR"] = str(data_dir)
    if deterministic:
        common["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    if device != "cuda":
        return [common] * (jobs or available_cores())
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    gpus = named or [str(number) for number in range(torch.cuda.device_count())]
    if not gpus:
        return [common]  # its first task says that there is none
    return [{**common, "CUDA_VISIBLE_DEVICES": gpus[n % len(gpus)]} for n in range(jobs or len(gpus))]


def in_worker() -> bool:
    """Whether this process is a worker."""
    return WORKER_MARK in os.environ


def attempt(message: bytes) -> bytes:
    """Run a pickled task; return what it returned or a Failure, pickled."""
    try:
        task: Task = pickle.loads(message)  # noqa: S301  # from the driver, through its own pipe
        return pickle.dumps(task.function(*task.arguments))
    except Exception as error:  # noqa: BLE001  # a user's model may raise anything; the driver decides
        summary = str(error).splitlines()[0] if str(error) else ""
        known = isinstance(error, OptstudyError)
        text = summary if known else f"{type(error).__name__}: {summary}"
        usage = isinstance(error, UsageError)
        return pickle.dumps(Failure(text, traceback.format_exc(), usage))


def serve() -> None:
    """Be a worker: take tasks from the pipe that the command line names, until the driver is gone."""
    sys.path.insert(0, "")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    connection = Connection(int(sys.argv[1]))
    pending: list[bytes] = []
    arrived = threading.Semaphore(0)

    def listen() -> None:
        # The driver's end closes when it dies, however it dies: end even in the middle of a task.
        while True:
            try:
                pending.append(connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)
            arrived.release()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        arrived.acquire()
        with contextlib.suppress(OSError):  # the driver is gone, and so is this process in a moment
            connection.send_bytes(attempt(pending.pop(0)))
