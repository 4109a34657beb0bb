"""Worker processes on this machine, and the environment variables of workers (threads, GPU, memory allocator)."""

import contextlib
import heapq
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, Self

from optstudy.errors import OptstudyError, UsageError, one_line
from optstudy.execution.flows import Task, TaskEvent
from optstudy.workloads.listed_code import import_only

ATTEMPTS = 3  # to run a task whose worker dies
# Settings of glibc's allocator, which by default returns the memory of each step's temporaries to the system, so that
# the next step incurs page faults. Other C libraries ignore them.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",  # smallest allocation in bytes that is mapped separately
    "MALLOC_TRIM_THRESHOLD_": "4294967296",  # free bytes at the top of the heap before they are returned
}
WORKER_VARIABLE = "OPTSTUDY_WORKER"  # environment variable that is set in workers
SAFE_PATH = "PYTHONSAFEPATH"  # Python's own: if set, a worker imports nothing from the current folder

# JSON of SHA-256 by absolute path: if set, a worker imports only these files.
LISTED_FILES = "OPTSTUDY_LISTED_FILES"


class LocalWorkers:
    """A pool of processes on this machine. They exit when the driver exits, even if it is killed.

    They are started as fresh interpreters rather than by `multiprocessing`, which would rerun the caller's script in
    each process.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        """Start a worker for each of ``environments``, added to the environment of this process."""
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
        self._dispatch()

    def next_result(self) -> tuple[int, Any]:
        """Wait for a task to finish, and start the next one on its worker before returning; or for its next event."""
        while True:
            connection = wait(list(self._busy))[0]
            assert isinstance(connection, Connection)
            ticket, task = self._busy.pop(connection)
            try:
                result = connection.recv()
            except (EOFError, OSError):  # the worker died, perhaps while sending
                result = self._replace(connection, ticket, task)
                if result is None:
                    continue
            else:
                if isinstance(result, TaskEvent):
                    self._busy[connection] = (ticket, task)
                    return ticket, result
                self._idle.append(connection)
            self._attempts.pop(ticket, None)
            self._dispatch()
            return ticket, result

    def close(self) -> None:
        """Kill the workers."""
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
        """Process IDs of the workers."""
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
            stdout=2,  # output of a user's model must not mix with the driver's tables and JSON
            env={**os.environ, **environment, WORKER_VARIABLE: "1"},
        )
        theirs.close()
        self._processes[ours] = process
        self._environments[ours] = environment
        self._idle.append(ours)

    def _dispatch(self) -> None:
        while self._queue and self._idle:
            _, ticket, task = heapq.heappop(self._queue)
            connection = self._idle.pop()
            self._busy[connection] = (ticket, task)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # next_result notices
                connection.send(task)

    def _replace(self, dead: Connection, ticket: int, task: Task) -> OptstudyError | None:
        process = self._processes.pop(dead)
        dead.close()
        process.kill()
        status = process.wait()
        self._start(self._environments.pop(dead))
        self._attempts[ticket] = self._attempts.get(ticket, 0) + 1
        if self._attempts[ticket] >= ATTEMPTS:
            cause = signal.Signals(-status).name if status < 0 else f"status {status}"
            return OptstudyError(
                f"a worker died {ATTEMPTS} times during {task.name} (last by {cause}); the machine may be out of memory"
            )
        self.submit(ticket, task)
        return None


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environments(
    device: str,
    threads: int,
    jobs: int | None = None,
    data_dir: str | Path | None = None,
    *,
    deterministic: bool = False,
) -> list[dict[str, str]]:
    """Return the environment variables of each worker; the user's own values for the allocator take precedence.

    Args:
        device: Device of the tensors; with ``"cuda"`` each worker sees one GPU.
        threads: CPU threads per worker.
        jobs: Number of workers; by default one per available core, or one per visible GPU.
        data_dir: Folder of data sets that do not ship with the package.
        deterministic: Whether runs are deterministic; cuBLAS needs this before CUDA is initialised.
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

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    gpus = visible or [str(number) for number in range(torch.cuda.device_count())]
    if not gpus:
        return [common]  # its first task reports that there is no GPU
    return [{**common, "CUDA_VISIBLE_DEVICES": gpus[n % len(gpus)]} for n in range(jobs or len(gpus))]


def listed_variables(listed: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment variables of workers that import only the listed files; see `restrict_imports`.

    Args:
        listed: SHA-256 by path, as `sources` returns it; None to import any file.
    """
    if listed is None:
        return {}
    return {LISTED_FILES: json.dumps({str(Path(name).resolve()): digest for name, digest in listed.items()})}


def restrict_imports() -> None:
    """Import only installed packages and the files that the driver listed, if it listed any; see `import_only`."""
    if LISTED_FILES in os.environ:
        import optstudy.training  # noqa: F401  # a listed torch.py must not hide what a worker needs itself

        import_only(json.loads(os.environ[LISTED_FILES]))


def in_worker() -> bool:
    """Whether this process is a worker."""
    return WORKER_VARIABLE in os.environ


def run_pickled(message: bytes) -> bytes:
    """Run a pickled task; return its pickled result, or a pickled OptstudyError. Its events are dropped."""
    *_, result = pickled_replies(message)
    return result


def pickled_replies(message: bytes) -> Iterator[bytes]:
    """Run a pickled task; yield its events as `TaskEvent`, and its result or an OptstudyError, pickled."""
    try:
        task: Task = pickle.loads(message)  # noqa: S301  # from the driver, through its own pipe
        result = task.function(*task.arguments)
        if isinstance(result, Generator):
            result = yield from _pickled_events(result)
        yield pickle.dumps(result)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's code may raise anything
        kind = UsageError if isinstance(error, UsageError) else OptstudyError
        failure = kind(one_line(error))
        failure.details = traceback.format_exc()
        yield pickle.dumps(failure)


def _pickled_events(steps: Generator[Any, None, Any]) -> Generator[bytes, None, Any]:
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return end.value
        yield pickle.dumps(TaskEvent(event))


def serve() -> None:
    """Run as a worker: execute tasks from the pipe given on the command line until the driver exits."""
    restrict_imports()
    if not os.environ.get(SAFE_PATH):
        sys.path.insert(0, "")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the driver handles it
    connection = Connection(int(sys.argv[1]))
    pending: list[bytes] = []
    arrived = threading.Semaphore(0)

    def listen() -> None:
        # The driver's end closes when the driver dies for any reason; then exit, even during a task.
        while True:
            try:
                pending.append(connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)
            arrived.release()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        arrived.acquire()
        with contextlib.suppress(OSError):  # the driver is gone, and `listen` ends this process
            for reply in pickled_replies(pending.pop(0)):
                connection.send_bytes(reply)
