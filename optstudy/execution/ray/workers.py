"""Actors of a Ray cluster that run tasks as the workers of this machine do."""

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
from optstudy.execution.flows import Failure, Task
from optstudy.execution.local import ATTEMPTS, WORKER_MARK, attempt, environments
from optstudy.execution.ray.connect import join
from optstudy.execution.ray.node import Home

NEWS = 5.0  # seconds after which the cluster is asked whether nodes have joined
PATIENCE = 600.0  # seconds without a single worker, after which the work is given up


class _Actor:
    """A worker on a node of the cluster."""

    def settle(self, home: Home) -> str:
        """Say what is wrong with this node, if anything."""
        try:
            found = home.differs()
        except UsageError as error:
            found = str(error)
        return f"node {socket.gethostname()} has {found}" if found else ""

    def run(self, message: bytes) -> bytes:
        """Run a pickled task; return what it returned or a Failure, pickled."""
        return attempt(message)


class RayWorkers:
    """Actors of a Ray cluster, one for so many cores, or for a GPU. They end when the driver does.

    Nodes may come and go: a worker that dies, alone or with its node, costs the task that it was at, which is
    tried again; and a node that joins gets workers.
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
        """Join a cluster, and start as many workers as it has room for.

        Args:
            address: ``auto`` for the cluster of this machine or of ``RAY_ADDRESS``, or ``HOST:PORT``.
            device: Where tensors live; with ``"cuda"`` each worker sees one GPU.
            threads: CPU threads, and cores, of a worker.
            jobs: Workers at most; with ``"cuda"`` more than there are GPUs share them.
            data_dir: Folder of data sets that do not ship with the package.
            deterministic: Whether runs are.
            references: What may be the user's own code, and has to be the same on each node.

        Raises:
            UsageError: If Ray is missing, the cluster cannot be joined, takes callers without a token, or has no
                room for a worker.
        """
        if device.startswith("cuda:"):
            raise UsageError(f"--ray deals out the GPUs by itself; give cuda as the device, not {device}")
        own = {name: value for name, value in os.environ.items() if name.startswith("OPTSTUDY_")}
        own |= environments("cpu", threads, 1, data_dir, deterministic=deterministic)[0]
        self._home = Home.here(data_dir, references)
        self._address, self._jobs = address, jobs or sys.maxsize
        self._need = {"CPU": float(threads)}
        self._queue: list[tuple[float, int, Task]] = []
        self._attempts: dict[int, int] = {}
        self._settling: dict[Any, Any] = {}  # what `settle` will return -> the actor
        self._starting: set[Any] = set()  # those of them that have not settled before
        self._busy: dict[Any, tuple[Any, int, Task]] = {}  # what `run` will return -> who is at what
        self._idle: list[Any] = []
        self._stillborn = 0  # how often in a row all that were started died at once
        self._last_seen = time.monotonic()
        self._ray = join(address)
        try:
            self._start(device, threads, jobs, own)
        except BaseException:  # or the next study finds this program in a cluster already
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
        """Wait for a task to end and give its worker the next one before returning.

        Raises:
            OptstudyError: If no worker can be had, or a node is not as the driver's machine.
        """
        while True:
            self._recruit()
            ended = self._ended()
            if ended in self._settling:
                self._welcome(ended)
            elif ended is not None:
                ticket, result = self._result(ended)
                if result is not None:
                    self._attempts.pop(ticket, None)
                    self._hand_out()
                    return ticket, pickle.loads(result)  # noqa: S301  # from our own worker
            self._hand_out()

    def close(self) -> None:
        """End the workers, whatever they are doing, and leave the cluster."""
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
        """How many workers fit on the nodes that are there."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(min(int(node.get(kind, 0) / need) for kind, need in self._need.items()) for node in nodes)

    def _recruit(self) -> None:
        alive = bool(self._busy or self._idle)
        if alive or not self._settling:  # else those that are settling decide first whether any worker starts
            for _ in range(len(self), min(self._room(), self._jobs)):
                self._starting.add(self._ask(self._actor.remote()))
        if alive:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > PATIENCE:
            raise OptstudyError(
                f"the Ray cluster has had no worker for {PATIENCE / 60:.0f} minutes: its nodes are lost, or"
                " their cores taken; the same command goes on from here"
            )

    def _ended(self) -> Any:
        """Wait a while for one of the workers to answer; return what it answers, or nothing."""
        waiting = [*self._busy, *self._settling]
        if not waiting:  # Ray does not wait for nothing
            time.sleep(NEWS)
            return None
        return next(iter(self._ray.wait(waiting, timeout=NEWS)[0]), None)

    def _ask(self, actor: Any) -> Any:
        answer = actor.settle.remote(self._home)
        self._settling[answer] = actor
        return answer

    def _welcome(self, answer: Any) -> None:
        actor, starting = self._settling.pop(answer), answer in self._starting
        self._starting.discard(answer)
        try:
            wrong = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._dismiss(actor)
            self._stillborn += starting and not len(self)
            if self._stillborn >= ATTEMPTS:
                raise OptstudyError(f"no worker starts on the Ray cluster: {_last_line(error)}") from error
            return
        if wrong:
            raise UsageError(wrong)
        self._stillborn = 0
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
            return ticket, self._again(ticket, task, error)
        self._idle.append(actor)
        return ticket, result

    def _again(self, ticket: int, task: Task, error: Exception) -> bytes | None:
        doubtful, self._idle = self._idle, []
        for actor in doubtful:  # if they died with their node, that must not cost the task another attempt
            self._ask(actor)
        self._attempts[ticket] = self._attempts.get(ticket, 0) + 1
        if self._attempts[ticket] >= ATTEMPTS:
            message = f"a worker died {ATTEMPTS} times at {task.name} (on Ray); is memory short?"
            return pickle.dumps(Failure(message, str(error)))
        heapq.heappush(self._queue, (-task.cost, ticket, task))
        return None

    def _dismiss(self, actor: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)


def _share(jobs: int | None, gpus: float) -> float:
    """The part of a GPU that a worker takes where there are more workers than GPUs."""
    crowd = math.ceil((jobs or 1) / max(gpus, 1))
    return 1.0 if crowd == 1 else math.floor(10000 / crowd) / 10000  # Ray counts in ten-thousandths


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
