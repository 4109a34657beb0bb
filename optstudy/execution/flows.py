"""Sequential programs that run side by side on shared workers, and what passes between them."""

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
    """A pure, module-level function and its arguments. Dearer tasks start first."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    cost: float = 0.0
    name: str = "the same task"  # in the message that a worker died at it


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
