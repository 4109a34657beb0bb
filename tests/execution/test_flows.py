"""Flows advance whatever order their tasks end in."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optstudy.execution.flows import Flow, Gather, Task, drive


class InProcess:
    """Workers that are a list: which of the waiting tasks is run next is the test's choice."""

    def __init__(self, choose: Callable[[int], int] = lambda _: 0) -> None:
        self.submitted: list[tuple[Any, ...]] = []
        self.waiting: list[tuple[int, Task]] = []
        self.choose = choose

    def __len__(self) -> int:
        return 1

    def submit(self, ticket: int, task: Task) -> None:
        self.submitted.append(task.arguments)
        self.waiting.append((ticket, task))

    def next_result(self) -> tuple[int, Any]:
        ticket, task = self.waiting.pop(self.choose(len(self.waiting)))
        return ticket, task.function(*task.arguments)


def square(x: int) -> int:
    return x * x


def squares(*numbers: int) -> Flow:
    """Square numbers one after the other."""
    found: list[int] = []
    for number in numbers:
        result = yield Task(square, (number,))
        found += [result]
    return found


def tell(flow: Flow) -> Flow:
    """Make an event of what a flow returns."""
    result = yield from flow
    yield "returned", result


def last(_: int) -> int:
    return -1


def test_a_flow_is_sent_what_its_tasks_return() -> None:
    assert list(drive([tell(squares(2, 3))], InProcess())) == [("returned", [4, 9])]


def test_gather_returns_results_in_the_order_of_its_flows() -> None:
    def flow() -> Flow:
        yield (yield Gather((squares(1, 2, 3), squares(4), squares(5, 6))))

    for choose in (lambda _: 0, last):
        assert list(drive([flow()], InProcess(choose))) == [[[1, 4, 9], [16], [25, 36]]]


def test_gathers_nest_and_may_hold_flows_without_tasks() -> None:
    def nothing() -> Flow:
        return "nothing"
        yield

    def inner() -> Flow:
        found = yield Gather((squares(1), nothing()))
        return ["inner", *found]

    def outer() -> Flow:
        yield (yield Gather((inner(), nothing(), squares(2))))

    assert list(drive([outer()], InProcess(last))) == [[["inner", [1], "nothing"], "nothing", [4]]]


def test_an_empty_gather_returns_at_once() -> None:
    def flow() -> Flow:
        yield (yield Gather(()))

    assert list(drive([flow()], InProcess())) == [[]]


def test_gathered_flows_do_not_wait_for_each_other_and_all_end() -> None:
    def event() -> Flow:
        yield "on"

    def flow() -> Flow:
        yield Gather((tell(squares(3)), event()))

    assert list(drive([flow()], InProcess())) == ["on", ("returned", [9])]


def test_tasks_of_gathered_flows_reach_the_workers_before_those_of_later_flows() -> None:
    def flow() -> Flow:
        yield Gather((squares(1), squares(2)))

    workers = InProcess()

    list(drive([flow(), squares(3)], workers))

    assert workers.submitted == [(1,), (2,), (3,)]


def test_events_of_a_flow_come_in_their_order_and_before_its_next_task_starts() -> None:
    workers = InProcess()

    def flow() -> Flow:
        yield 1
        yield None
        yield Task(square, (2,))
        yield 3

    events = drive([flow()], workers)

    assert [next(events), next(events)] == [1, None]
    assert workers.waiting == []
    assert list(events) == [3]


@given(st.lists(st.integers(0, 20), max_size=40))
def test_what_flows_return_does_not_depend_on_the_order_in_which_tasks_end(choices: list[int]) -> None:
    picks = iter(choices)

    def pair(first: int) -> Flow:
        return (yield Gather((squares(first, first + 1), squares(first + 2))))

    def flow(first: int) -> Flow:
        yield first, (yield Gather((pair(first), squares(), pair(10 * first))))

    events = list(drive([flow(1), flow(2)], InProcess(lambda n: next(picks, 0) % n)))

    assert sorted(events) == [
        (1, [[[1, 4], [9]], [], [[100, 121], [144]]]),
        (2, [[[4, 9], [16]], [], [[400, 441], [484]]]),
    ]


def test_when_a_flow_raises_the_others_are_closed_children_first() -> None:
    closed = []

    def child(name: str) -> Flow:
        try:
            yield Task(square, (1,))
            yield from squares(1, 2, 3, 4, 5)
        finally:
            closed.append(name)

    def parent() -> Flow:
        try:
            yield Gather((child("one"), child("two")))
        finally:
            closed.append("parent")

    def broken() -> Flow:
        yield Task(square, (1,))
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(drive([parent(), broken()], InProcess()))

    assert closed == ["two", "one", "parent"]


def test_every_flow_is_closed_even_if_one_raises_while_closing() -> None:
    closed = []

    def flow(name: str) -> Flow:
        try:
            yield name
            yield Task(square, (1,))
        finally:
            closed.append(name)
            if name == "two":
                raise OSError("while closing")

    events = drive([flow("one"), flow("two"), flow("three")], InProcess())
    assert [next(events), next(events), next(events)] == ["one", "two", "three"]

    with pytest.raises(OSError, match="while closing"):
        events.close()  # type: ignore[attr-defined]  # a generator

    assert closed == ["three", "two", "one"]
