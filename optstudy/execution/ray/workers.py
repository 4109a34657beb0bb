"""Workers on a Ray cluster: actors that run tasks, and how lost nodes and new nodes are handled."""

import contextlib
import heapq
import math
import os
import pickle
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Task
from optstudy.execution.local import ATTEMPTS, WORKER_MARK, attempt, environments
from optstudy.execution.ray.connect import join
from optstudy.execution.ray.node import describe_machine, difference, existing

POLL = 5.0  # seconds between two checks whether nodes have joined
TIMEOUT = 600.0  # seconds without a worker after which the work fails


class _Actor:
    """A worker on a node of the cluster."""

    def settle(self, *machine: Any) -> str:
        """Describe how this node differs from the driver's machine; "" if it does not. See `difference`."""
        try:
            problem = difference(*machine)
        except UsageError as error:
            problem = str(error)
        return f"node {socket.gethostname()} has {problem}" if problem else ""

    def run(self, message: bytes) -> bytes:
        """Run a pickled task; see `attempt`."""
        return attempt(message)


class RayWorkers:
    """Actors of a Ray cluster, each with its own cores or GPU. They exit when the driver exits.

    Nodes may join and leave: a task whose worker dies, alone or with its node, is retried, and a node that joins gets
    workers.
    """

    def __init__(
        self,
        address: str,
        device: str,
        threads: int,
        jobs: int | None = None,
        data_dir: str | Path | None = None,
        *,
        deterministic: bool = False,
        references: Sequence[str] = (),
    ) -> None:
        """Join a cluster, and start as many workers as fit.

        Args:
            address: ``auto`` for the cluster of this machine or of ``RAY_ADDRESS``, or ``HOST:PORT``.
            device: Device of the tensors; with ``"cuda"`` each worker sees one GPU.
            threads: CPU threads, and cores, of a worker.
            jobs: Maximum number of workers; with ``"cuda"``, more workers than GPUs share them.
            data_dir: Folder of data sets that do not ship with the package.
            deterministic: Whether runs use deterministic algorithms.
            references: References that may name the user's own code, which must be the same on each node.

        Raises:
            UsageError: If Ray is missing, or the cluster cannot be joined, accepts callers without a token, or has no
                room for a worker.
        """
        if device.startswith("cuda:"):
            raise UsageError(f"--ray deals out the GPUs by itself; give cuda as the device, not {device}")
        own = {name: value for name, value in os.environ.items() if name.startswith("OPTSTUDY_")}
        own |= environments("cpu", threads, 1, data_dir, deterministic=deterministic)[0]
        self._machine = (describe_machine(references), str(Path.cwd()), existing(data_dir), references)
        self._address, self._jobs = address, jobs or sys.maxsize
        self._need = {"CPU": float(threads)}
        self._queue: list[tuple[float, int, Task]] = []
        self._attempts: dict[int, int] = {}
        self._settling: dict[Any, Any] = {}  # actor by its pending `settle`
        self._starting: set[Any] = set()  # those that have not settled before
        self._busy: dict[Any, tuple[Any, int, Task]] = {}  # actor, ticket and task by the pending `run`
        self._idle: list[Any] = []
        self._failed_starts = 0  # consecutive workers that died at their start
        self._last_seen = time.monotonic()
        self._ray = join(address)
        try:
            self._start(device, threads, jobs, own)
        except BaseException:  # else this program would stay in the cluster
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._settling) + len(self._busy) + len(self._idle)

    def submit(self, ticket: int, task: Task) -> None:
        """Queue a task; an idle worker takes it at once."""
        heapq.heappush(self._queue, (-task.cost, ticket, task))
        self._hand_out()

    def next_result(self) -> tuple[int, Any]:
        """Wait for a task to finish, and start the next one on its worker before returning.

        Raises:
            OptstudyError: If no worker can be started, or a node differs from the driver's machine.
        """
        while True:
            self._recruit()
            ended = self._ended()
            if ended in self._settling:
                self._admit(ended)
            elif ended is not None:
                ticket, result = self._result(ended)
                if result is not None:
                    self._attempts.pop(ticket, None)
                    self._hand_out()
                    return ticket, pickle.loads(result)  # noqa: S301  # from our own worker
            self._hand_out()

    def close(self) -> None:
        """Kill the workers, and leave the cluster."""
        for actor in [*self._settling.values(), *self._idle, *(actor for actor, _, _ in self._busy.values())]:
            self._dismiss(actor)
        self._settling, self._busy, self._idle = {}, {}, []
        self._ray.shutdown()

    def _start(self, device: str, threads: int, jobs: int | None, environment: Mapping[str, str]) -> None:
        if device == "cuda":
            self._need["GPU"] = _share(jobs, self._total("GPU"))
        self._actor = self._ray.remote(_Actor).options(
            num_cpus=threads,
            num_gpus=self._need.get("GPU", 0),
            runtime_env={"env_vars": {**environment, WORKER_MARK: "1"}},
        )
        self._recruit()
        if not len(self):
            need = f"{threads} CPU" + " and a GPU" * (device == "cuda")
            raise UsageError(f"no node of the Ray cluster has {need} for a worker; see ray status")

    def _total(self, kind: str) -> float:
        nodes = self._ray.nodes()
        return float(sum(node["Resources"].get(kind, 0) for node in nodes if node["Alive"]))

    def _room(self) -> int:
        """Return how many workers fit on the nodes."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(min(int(node.get(kind, 0) / need) for kind, need in self._need.items()) for node in nodes)

    def _recruit(self) -> None:
        alive = bool(self._busy or self._idle)
        if alive or not self._settling:  # else those that are settling decide first whether any worker starts
            for _ in range(len(self), min(self._room(), self._jobs)):
                self._starting.add(self._settle(self._actor.remote()))
        if alive:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > TIMEOUT:
            raise OptstudyError(
                f"the Ray cluster has had no worker for {TIMEOUT / 60:.0f} minutes: its nodes are lost, or"
                " their cores taken; the same command goes on from here"
            )

    def _ended(self) -> Any:
        """Wait for a worker to finish `settle` or `run`; None if none does within `POLL` seconds."""
        waiting = [*self._busy, *self._settling]
        if not waiting:  # ray.wait needs at least one
            time.sleep(POLL)
            return None
        return next(iter(self._ray.wait(waiting, timeout=POLL)[0]), None)

    def _settle(self, actor: Any) -> Any:
        answer = actor.settle.remote(*self._machine)
        self._settling[answer] = actor
        return answer

    def _admit(self, answer: Any) -> None:
        actor, starting = self._settling.pop(answer), answer in self._starting
        self._starting.discard(answer)
        try:
            problem = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._dismiss(actor)
            self._failed_starts += starting and not len(self)
            if self._failed_starts >= ATTEMPTS:
                raise OptstudyError(f"no worker starts on the Ray cluster: {_last_line(error)}") from error
            return
        if problem:
            raise UsageError(problem)
        self._failed_starts = 0
        self._idle.append(actor)

    def _hand_out(self) -> None:
        while self._queue and self._idle:
            _, ticket, task = heapq.heappop(self._queue)
            actor = self._idle.pop()
            self._busy[actor.run.remote(pickle.dumps(task))] = (actor, ticket, task)

    def _result(self, answer: Any) -> tuple[int, bytes | None]:
        actor, ticket, task = self._busy.pop(answer)
        try:
            result: bytes = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._dismiss(actor)
            return ticket, self._retry(ticket, task, error)
        self._idle.append(actor)
        return ticket, result

    def _retry(self, ticket: int, task: Task, error: Exception) -> bytes | None:
        idle, self._idle = self._idle, []
        for actor in idle:  # if they died with their node, that must not cost the task another attempt
            self._settle(actor)
        self._attempts[ticket] = self._attempts.get(ticket, 0) + 1
        if self._attempts[ticket] >= ATTEMPTS:
            failure = OptstudyError(
                f"a worker died {ATTEMPTS} times at {task.name} (on Ray); is memory short?"
            )
            failure.details = str(error)
            return pickle.dumps(failure)
        heapq.heappush(self._queue, (-task.cost, ticket, task))
        return None

    def _dismiss(self, actor: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)


def _share(jobs: int | None, gpus: float) -> float:
    """Return the share of a GPU that a worker takes, below 1 if there are more workers than GPUs."""
    workers = math.ceil((jobs or 1) / max(gpus, 1))  # on each GPU
    return 1.0 if workers == 1 else math.floor(10000 / workers) / 10000  # Ray counts in ten-thousandths


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
