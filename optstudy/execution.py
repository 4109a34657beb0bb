"""Where pure functions run: workers on this machine, each a process with a pipe of its own."""

import contextlib
import dataclasses
import heapq
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, Protocol, Self

from optstudy.errors import OptstudyError, UsageError

ATTEMPTS = 3  # how often a task may take its worker down with it before it counts as failed
WORKER_MARK = "OPTSTUDY_WORKER"  # set in a worker's environment


@dataclass(frozen=True)
class Task:
    """A pure, module-level function and its arguments. Dearer tasks start first."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    cost: float = 0.0


@dataclass(frozen=True)
class Failure:
    """A task that raised, or whose worker died each time."""

    message: str  # one line
    details: str  # traceback
    usage: bool = False  # the task itself found that it was asked for something impossible

    def error(self) -> OptstudyError:
        """The exception to raise where the work cannot go on without this task."""
        return (UsageError if self.usage else OptstudyError)(self.message)


class Workers(Protocol):
    """Anything that runs tasks: `submit` never waits, `next_result` waits for one."""

    def submit(self, ticket: int, task: Task) -> None:
        """Queue a task under a number of the caller's."""

    def next_result(self) -> tuple[int, Any]:
        """Return a finished task's number, and what it returned or a Failure."""


@dataclass(frozen=True)
class Together:
    """What a flow yields to wait for other flows; it is sent what they return, in the same order."""

    flows: tuple["Flow", ...]


@dataclass(frozen=True)
class Fork:
    """What a flow yields to start other flows and go on at once."""

    flows: tuple["Flow", ...]


Flow = Generator[Task | Together | Fork | object, Any, Any]
"""A sequential program. It yields a `Task` and is sent what it returned, or a `Failure`; a `Together` or a
`Fork`; or anything else, an event for whoever watches."""


@dataclass(eq=False)
class _Strand:
    """A flow on its way, and where what it returns goes."""

    flow: Flow
    parent: "_Strand | None" = None
    position: int = 0
    awaited: list[Any] = dataclasses.field(default_factory=list)  # what its children returned
    missing: int = 0  # children that have not


def drive(flows: Iterable[Flow], workers: Workers) -> Iterator[Any]:
    """Run flows side by side on shared workers, yielding their events.

    Flows advance as their tasks return; what each of them computes must not depend on that order.
    """
    ready: deque[tuple[_Strand, Any]] = deque((_Strand(flow), None) for flow in flows)
    alive = [strand for strand, _ in ready]
    running: dict[int, _Strand] = {}
    tickets = itertools.count()
    try:
        while ready or running:
            if not ready:
                ticket, result = workers.next_result()
                ready.append((running.pop(ticket), result))
            strand, value = ready.popleft()
            try:
                step = strand.flow.send(value)
            except StopIteration as stop:
                alive.remove(strand)
                ready += _returned(strand, stop.value)
                continue
            match step:
                case Task():
                    ticket = next(tickets)
                    running[ticket] = strand
                    workers.submit(ticket, step)
                case Together(flows) if flows:
                    strand.awaited, strand.missing = [None] * len(flows), len(flows)
                    children = [_Strand(flow, strand, place) for place, flow in enumerate(flows)]
                    alive += children
                    ready += [(child, None) for child in children]
                case Together():
                    ready.appendleft((strand, []))
                case Fork(flows):
                    children = [_Strand(flow) for flow in flows]
                    alive += children
                    ready += [
                        (child, None) for child in (*children, strand)
                    ]  # theirs first: workers may wait
                case event:
                    ready.appendleft((strand, None))
                    yield event
    finally:
        with contextlib.ExitStack() as closing:  # closes all, children first, even if one of them raises
            for strand in alive:
                closing.callback(strand.flow.close)


def _returned(strand: _Strand, value: Any) -> list[tuple[_Strand, Any]]:
    parent = strand.parent
    if parent is None:
        return []
    parent.awaited[strand.position] = value
    parent.missing -= 1
    return [] if parent.missing else [(parent, parent.awaited)]


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

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers."""
        return [process.pid for process in self._processes.values()]

    def _start(self, environment: Mapping[str, str]) -> None:
        ours, theirs = Pipe()
        process = subprocess.Popen(  # noqa: S603  # this interpreter, this module, a file descriptor
            [sys.executable, "-c", "from optstudy.execution import serve; serve()", str(theirs.fileno())],
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
            message = f"a worker died {ATTEMPTS} times at the same task (last by {how}); is memory short?"
            return Failure(message, message)
        self.submit(ticket, task)
        return None


def run_all(tasks: Sequence[Task], workers: Workers) -> list[Any]:
    """Run tasks and return their results in order.

    Raises:
        OptstudyError: If one fails.
    """
    for ticket, task in enumerate(tasks):
        workers.submit(ticket, task)
    results = dict(workers.next_result() for _ in tasks)
    for result in results.values():
        if isinstance(result, Failure):
            raise result.error()
    return [results[ticket] for ticket in range(len(tasks))]


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environments(
    device: str, threads: int, jobs: int | None = None, data_dir: str | Path | None = None
) -> list[dict[str, str]]:
    """Return what to add to the environment of each worker.

    Args:
        device: Where tensors live; with ``"cuda"`` each worker sees one GPU.
        threads: CPU threads of a worker.
        jobs: Workers; by default one a core that this process may use, or one a visible GPU.
        data_dir: Folder of data sets that do not ship with the package.
    """
    common = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if data_dir is not None:
        common["OPTSTUDY_DATA_DIR"] = str(data_dir)
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


def _attempt(message: bytes) -> bytes:
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
            connection.send_bytes(_attempt(pending.pop(0)))
