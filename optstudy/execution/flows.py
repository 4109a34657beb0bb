"""Flows: sequential programs that run concurrently and share workers."""

import contextlib
import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optstudy.errors import OptstudyError, UsageError


@dataclass(frozen=True)
class Task:
    """A pure, module-level function and its arguments. Tasks of higher cost start first.

    A generator function may yield events before it returns its result. A pool may drop them, as Ray does.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    cost: float = 0.0
    name: str = "the same task"  # shown in the error message if workers die during the task


@dataclass(frozen=True)
class TaskEvent:
    """An event of a task that has not ended."""

    event: Any


class Workers(Protocol):
    """A pool that runs tasks: `submit` never blocks, `next_result` blocks until a task ends or yields an event."""

    def __len__(self) -> int:
        """Return the number of workers."""

    def submit(self, ticket: int, task: Task) -> None:
        """Queue a task; ``ticket`` identifies its result."""

    def next_result(self) -> tuple[int, Any]:
        """Return the ticket of a task, and its result, an OptstudyError if it failed, or a `TaskEvent`."""


@dataclass(frozen=True)
class Gather:
    """Yielded by a flow to wait for other flows; it is sent their results, in the same order."""

    flows: tuple["Flow", ...]


Flow = Generator[Task | Gather | object, Any, Any]
"""A sequential program, as a generator. It yields a `Task` and is sent its result, or an `OptstudyError` if it
failed; yields a `Gather` and is sent the results of its flows; or yields any other object, which `drive` passes on as
an event."""


@dataclass(eq=False)
class _FlowNode:
    """A flow that is running, and the flow that waits for its result."""

    flow: Flow
    parent: "_FlowNode | None" = None
    position: int = 0
    results: list[Any] = dataclasses.field(default_factory=list)  # of its children
    pending: int = 0  # number of children that have not returned


def drive(flows: Iterable[Flow], workers: Workers) -> Iterator[Any]:
    """Run flows concurrently on shared workers, yielding their events.

    Events of tasks are passed on. Flows advance as their tasks finish, so a flow's result must not depend on the order
    of other flows.
    """
    ready: deque[tuple[_FlowNode, Any]] = deque((_FlowNode(flow), None) for flow in flows)
    alive = [node for node, _ in ready]
    running: dict[int, _FlowNode] = {}
    tickets = itertools.count()
    try:
        while ready or running:
            if not ready:
                ticket, result = workers.next_result()
                if isinstance(result, TaskEvent):
                    yield result.event
                    continue
                ready.append((running.pop(ticket), result))
            node, value = ready.popleft()
            try:
                step = node.flow.send(value)
            except StopIteration as stop:
                alive.remove(node)
                ready += _deliver_result(node, stop.value)
                continue
            match step:
                case Task():
                    ticket = next(tickets)
                    running[ticket] = node
                    workers.submit(ticket, step)
                case Gather(flows) if flows:
                    node.results, node.pending = [None] * len(flows), len(flows)
                    children = [_FlowNode(flow, node, position) for position, flow in enumerate(flows)]
                    alive += children
                    ready.extendleft(
                        (child, None) for child in reversed(children)
                    )  # first, since workers may be idle
                case Gather():
                    ready.appendleft((node, []))
                case event:
                    ready.appendleft((node, None))
                    yield event
    finally:
        with contextlib.ExitStack() as closing:  # closes all flows, children first, even after an error
            for node in alive:
                closing.callback(node.flow.close)


def _deliver_result(node: _FlowNode, value: Any) -> list[tuple[_FlowNode, Any]]:
    """Pass a flow's result to its parent; return the parent with all results once they are complete."""
    parent = node.parent
    if parent is None:
        return []
    parent.results[node.position] = value
    parent.pending -= 1
    return [] if parent.pending else [(parent, parent.results)]


def require(task: Task) -> Flow:
    """Run a task within a flow; returns its result.

    Raises:
        OptstudyError: If it fails.
    """
    result = yield task
    if isinstance(result, OptstudyError):
        raise result
    return result


def run_all(tasks: Sequence[Task], workers: Workers) -> list[Any]:
    """Run tasks and return their results in order.

    Raises:
        OptstudyError: If a task fails; with a line for each task that fails for another reason.
    """
    for ticket, task in enumerate(tasks):
        workers.submit(ticket, task)
    results: dict[int, Any] = {}
    while len(results) < len(tasks):
        ticket, result = workers.next_result()
        if not isinstance(result, TaskEvent):
            results[ticket] = result
    ordered = [results[ticket] for ticket in range(len(tasks))]
    failed = [result for result in ordered if isinstance(result, OptstudyError)]
    reasons = list(dict.fromkeys(map(str, failed)))
    if len(reasons) > 1:
        usage = all(isinstance(error, UsageError) for error in failed)
        raise (UsageError if usage else OptstudyError)("\n".join(reasons))
    if failed:
        raise failed[0]
    return ordered
