"""Workers on a Ray cluster: actors that run tasks, while nodes may join and leave."""

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
from optstudy.execution.local import ATTEMPTS, WORKER_VARIABLE, environments, listed_variables, run_pickled
from optstudy.execution.ray.connect import join
from optstudy.execution.ray.node import describe_machine, difference, existing_folder

POLL = 5.0  # seconds between checks for new nodes
TIMEOUT = 600.0  # seconds without a worker before the work fails


class _Actor:
    """A worker on a node of the cluster."""

    def check_machine(self, *machine: Any) -> str:
        """Describe the first difference of this node from the driver's machine; "" if none exists. See `difference`."""
        try:
            problem = difference(*machine)
        except UsageError as error:
            problem = str(error)
        return f"node {socket.gethostname()} has {problem}" if problem else ""

    def run(self, message: bytes) -> bytes:
        """Run a pickled task; see `run_pickled`."""
        return run_pickled(message)


class RayWorkers:
    """Actors of a Ray cluster, each with its own cores or GPU. They exit when the driver exits.

    Nodes may join and leave: a task whose worker or node dies is retried, and workers are started on a node that
    joins.
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
        listed: Mapping[str, str] | None = None,
    ) -> None:
        """Join a cluster, and start as many workers as fit.

        Args:
            address: ``auto`` for the cluster of this machine or of ``RAY_ADDRESS``, or ``HOST:PORT``.
            device: Device of the tensors; with ``"cuda"`` each worker sees one GPU.
            threads: CPU threads, and cores, of a worker.
            jobs: Maximum number of workers; with ``"cuda"``, workers share GPUs if there are more workers than GPUs.
            data_dir: Folder of data sets that do not ship with the package.
            deterministic: Whether runs use deterministic algorithms.
            references: References, possibly to the user's code, which must be the same on each node.
            listed: SHA-256 of the only files that workers may import besides installed ones; None for any.

        Raises:
            UsageError: If Ray is missing, or the cluster cannot be joined, accepts clients without a token, or cannot
                fit a worker.
        """
        if device.startswith("cuda:"):
            raise UsageError(f"--ray assigns the GPUs itself; use the device cuda, not {device}")
        environment = {name: value for name, value in os.environ.items() if name.startswith("OPTSTUDY_")}
        environment |= environments("cpu", threads, 1, data_dir, deterministic=deterministic)[0]
        environment |= listed_variables(listed)
        self._machine = (describe_machine(references), str(Path.cwd()), existing_folder(data_dir), references)
        self._address, self._jobs = address, jobs or sys.maxsize
        self._resources = {"CPU": float(threads)}
        self._queue: list[tuple[float, int, Task]] = []
        self._attempts: dict[int, int] = {}
        self._checking: dict[Any, Any] = {}  # actor by its pending `check_machine`
        self._starting: set[Any] = set()  # pending checks of actors that have not been checked before
        self._busy: dict[Any, tuple[Any, int, Task]] = {}  # actor, ticket and task by the pending `run`
        self._idle: list[Any] = []
        self._failed_starts = 0  # consecutive workers that died at their start
        self._last_seen = time.monotonic()
        self._ray = join(address)
        try:
            self._start(device, threads, jobs, environment)
        except BaseException:  # else this program would remain in the cluster
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._checking) + len(self._busy) + len(self._idle)

    def submit(self, ticket: int, task: Task) -> None:
        """Queue a task; an idle worker takes it at once."""
        heapq.heappush(self._queue, (-task.cost, ticket, task))
        self._dispatch()

    def next_result(self) -> tuple[int, Any]:
        """Wait for a task to finish, and start the next one on its worker before returning.

        Raises:
            OptstudyError: If no worker can be started, or a node differs from the driver's machine.
        """
        while True:
            self._scale_up()
            ended = self._ended()
            if ended in self._checking:
                self._admit(ended)
            elif ended is not None:
                ticket, result = self._result(ended)
                if result is not None:
                    self._attempts.pop(ticket, None)
                    self._dispatch()
                    return ticket, pickle.loads(result)  # noqa: S301  # from this pool's worker
            self._dispatch()

    def close(self) -> None:
        """Kill the workers, and leave the cluster."""
        for actor in [*self._checking.values(), *self._idle, *(actor for actor, _, _ in self._busy.values())]:
            self._kill(actor)
        self._checking, self._busy, self._idle = {}, {}, []
        self._ray.shutdown()

    def _start(self, device: str, threads: int, jobs: int | None, environment: Mapping[str, str]) -> None:
        if device == "cuda":
            self._resources["GPU"] = _gpu_share(jobs, self._total("GPU"))
        self._actor = self._ray.remote(_Actor).options(
            num_cpus=threads,
            num_gpus=self._resources.get("GPU", 0),
            runtime_env={"env_vars": {**environment, WORKER_VARIABLE: "1"}},
        )
        self._scale_up()
        if not len(self):
            need = f"{threads} CPU" + " and a GPU" * (device == "cuda")
            raise UsageError(f"no node of the Ray cluster has {need} for a worker; see ray status")

    def _total(self, kind: str) -> float:
        nodes = self._ray.nodes()
        return float(sum(node["Resources"].get(kind, 0) for node in nodes if node["Alive"]))

    def _capacity(self) -> int:
        """Return the number of workers that fit on the nodes."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(
            min(int(node.get(kind, 0) / amount) for kind, amount in self._resources.items()) for node in nodes
        )

    def _scale_up(self) -> None:
        alive = bool(self._busy or self._idle)
        if alive or not self._checking:  # else wait for the pending checks first
            for _ in range(len(self), min(self._capacity(), self._jobs)):
                self._starting.add(self._check(self._actor.remote()))
        if alive:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > TIMEOUT:
            raise OptstudyError(
                f"the Ray cluster has had no worker for {TIMEOUT / 60:.0f} minutes: its nodes are lost, or"
                " their cores taken; run the same command again to resume"
            )

    def _ended(self) -> Any:
        """Wait for a worker to finish `check_machine` or `run`; None if none does within `POLL` seconds."""
        waiting = [*self._busy, *self._checking]
        if not waiting:  # ray.wait needs at least one
            time.sleep(POLL)
            return None
        return next(iter(self._ray.wait(waiting, timeout=POLL)[0]), None)

    def _check(self, actor: Any) -> Any:
        answer = actor.check_machine.remote(*self._machine)
        self._checking[answer] = actor
        return answer

    def _admit(self, answer: Any) -> None:
        actor, starting = self._checking.pop(answer), answer in self._starting
        self._starting.discard(answer)
        try:
            problem = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._kill(actor)
            self._failed_starts += starting and not len(self)
            if self._failed_starts >= ATTEMPTS:
                raise OptstudyError(f"no worker starts on the Ray cluster: {_last_line(error)}") from error
            return
        if problem:
            raise UsageError(problem)
        self._failed_starts = 0
        self._idle.append(actor)

    def _dispatch(self) -> None:
        while self._queue and self._idle:
            _, ticket, task = heapq.heappop(self._queue)
            actor = self._idle.pop()
            self._busy[actor.run.remote(pickle.dumps(task))] = (actor, ticket, task)

    def _result(self, answer: Any) -> tuple[int, bytes | None]:
        actor, ticket, task = self._busy.pop(answer)
        try:
            result: bytes = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._kill(actor)
            return ticket, self._retry(ticket, task, error)
        self._idle.append(actor)
        return ticket, result

    def _retry(self, ticket: int, task: Task, error: Exception) -> bytes | None:
        idle, self._idle = self._idle, []
        for actor in idle:  # if they died with their node, the task must not lose another attempt
            self._check(actor)
        self._attempts[ticket] = self._attempts.get(ticket, 0) + 1
        if self._attempts[ticket] >= ATTEMPTS:
            failure = OptstudyError(
                f"a worker died {ATTEMPTS} times during {task.name} (on Ray); the node may be out of memory"
            )
            failure.details = str(error)
            return pickle.dumps(failure)
        heapq.heappush(self._queue, (-task.cost, ticket, task))
        return None

    def _kill(self, actor: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)


def _gpu_share(jobs: int | None, gpus: float) -> float:
    """Return the fraction of a GPU for each worker, below 1 with more workers than GPUs."""
    workers = math.ceil((jobs or 1) / max(gpus, 1))  # on each GPU
    return 1.0 if workers == 1 else math.floor(10000 / workers) / 10000  # Ray counts in ten-thousandths


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
