"""Several processes, each with a shard of the data: one operator, as of one process with all of them."""

import datetime as dt
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from optstudy.curvature import (
    fisher,
    gauss_newton,
    hessian,
    on_first_process,
    preconditioned,
    top_eigenpairs,
    trace,
)

X, Y = oracles.examples(23)
LOSS = functional.cross_entropy
WEIGHTED = nn.CrossEntropyLoss(torch.tensor([4.0, 1.0, 0.5, 2.0]), ignore_index=0)
SUM = nn.CrossEntropyLoss(reduction="sum")
IGNORED = Y.where(torch.arange(23) % 3 != 0, -100)
SIZES = [5, 18]  # of the shards


def net() -> nn.Sequential:
    return oracles.net(3, 5, 4).eval()


def shard(rank: int, targets: Tensor, batches: bool = False) -> Any:
    x, y = (torch.split(tensor, SIZES)[rank] for tensor in (X, targets))
    return oracles.chunks((x, y), 3, len(x) - 3) if batches else (x, y)


def own_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)


class Fails(nn.Linear):
    """A net that fails in one process at a later call."""

    def __init__(self, rank: int) -> None:
        torch.manual_seed(0)
        super().__init__(3, 4)
        self.rank, self.fails = rank, False
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise MemoryError(f"no room in process {self.rank}")
        return super().forward(x)


# Each runs in every process and returns what it finds.


def matrices(rank: int, batches: bool) -> Any:
    group, found = dist.group.WORLD, {}
    for name, (make, loss, targets) in MATRICES.items():
        operator = make(net(), loss, shard(rank, targets, batches), dtype=torch.float64, group=group)
        found[name] = on_first_process(oracles.as_matrix, operator)
    return found


def estimates(rank: int) -> Any:
    operator = hessian(net(), LOSS, shard(rank, Y), group=dist.group.WORLD, weight_decay=0.1)
    pairs = on_first_process(lambda given: top_eigenpairs(given, k=2), operator)
    diagonal = torch.arange(1.0, 45)
    scaled = on_first_process(lambda given: oracles.as_matrix(preconditioned(given, diagonal)), operator)
    estimate = on_first_process(trace, operator)
    return None if rank else (pairs.values, pairs.converged, scaled, estimate.value)  # type: ignore[union-attr]


def wrapped(rank: int) -> Any:
    model = nn.parallel.DistributedDataParallel(net())
    operator = hessian(model, LOSS, shard(rank, Y), dtype=torch.float64, group=dist.group.WORLD)
    return on_first_process(oracles.as_matrix, operator)


def failing_product(rank: int, at: int) -> Any:
    model = Fails(rank)
    operator = hessian(model, LOSS, shard(rank, Y, batches=True), group=dist.group.WORLD)
    model.fails = rank == at
    return on_first_process(top_eigenpairs, operator)


def failing_decision(rank: int) -> Any:
    operator = hessian(net(), LOSS, shard(rank, Y), group=dist.group.WORLD)

    def divide(_: Any) -> float:
        return 1 / 0

    return on_first_process(divide, operator)


def failing_data(rank: int) -> Any:
    data = (X, Y + 7) if rank else (X, Y)
    return hessian(net(), LOSS, data, group=dist.group.WORLD)


def other_weights(rank: int) -> Any:
    model = net()
    model.get_parameter("2.bias").data.add_(rank)
    return hessian(model, LOSS, shard(rank, Y), group=dist.group.WORLD)


def other_arguments(rank: int) -> Any:
    return hessian(net(), LOSS, shard(rank, Y), group=dist.group.WORLD, weight_decay=float(rank))


def sum_and_mean(rank: int) -> Any:
    return hessian(net(), SUM if rank else LOSS, shard(rank, Y), group=dist.group.WORLD)


def unknown_denominator(rank: int) -> Any:
    return hessian(net(), own_loss, shard(rank, Y), group=dist.group.WORLD)


def wrong_denominator(rank: int) -> Any:
    data = shard(rank, Y)
    return hessian(net(), own_loss, data, denominator=lambda y: len(y) ** 2, group=dist.group.WORLD)


def batch_statistics(rank: int) -> Any:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return hessian(model, LOSS, shard(rank, Y), group=dist.group.WORLD)


def changed_model(rank: int) -> Any:
    model = net()
    operator = hessian(model, LOSS, shard(rank, Y, batches=True), group=dist.group.WORLD)
    model[1] = nn.ReLU() if rank else nn.Tanh()
    return on_first_process(top_eigenpairs, operator)


def without_others(rank: int) -> Any:
    operator = hessian(net(), LOSS, shard(rank, Y), group=dist.group.WORLD)
    return operator @ torch.ones(44)


def sharded_parameters(rank: int) -> Any:
    from torch.distributed.fsdp import fully_shard

    model = net()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return hessian(model, LOSS, shard(rank, Y), group=dist.group.WORLD)


MATRICES: dict[str, tuple[Callable[..., Any], Any, Tensor]] = {
    "mean": (hessian, LOSS, Y),
    "ignored": (hessian, LOSS, IGNORED),
    "weights of classes": (hessian, WEIGHTED, Y),
    "sum": (hessian, SUM, Y),
    "Gauss-Newton": (gauss_newton, WEIGHTED, Y),
    "Fisher": (fisher, LOSS, Y),
}


TASKS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    *((matrices, (batches,)) for batches in (False, True)),
    (estimates, ()),
    (wrapped, ()),
    *((failing_product, (rank,)) for rank in (0, 1)),
    *(
        (task, ())
        for task in (
            failing_decision,
            failing_data,
            other_weights,
            other_arguments,
            sum_and_mean,
            unknown_denominator,
            wrong_denominator,
            batch_statistics,
            changed_model,
            without_others,
            sharded_parameters,
        )
    ),
]


def work(rank: int, port: int, folder: str) -> None:
    """Do all tasks in one of two processes, one after the other, and leave what they return or raise in a file."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=dt.timedelta(seconds=100))
    found = []
    for task, arguments in TASKS:
        try:
            found.append(task(rank, *arguments))
        except Exception as error:  # noqa: BLE001  # compared by the tests
            found.append(f"{type(error).__name__}: {error}")
    Path(folder, str(rank)).write_bytes(pickle.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


Found = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What a task returns or raises in each of two processes, which do all of them, since their start takes seconds."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, (port, str(folder)), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (pickle.loads((folder / str(rank)).read_bytes()) for rank in range(2))  # noqa: S301  # our own

    def of(task: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
        index = TASKS.index((task, arguments))
        return first[index], second[index]

    return of


@pytest.mark.parametrize("batches", [False, True], ids=["one", "several"])
def test_two_processes_have_the_operator_of_one(found: Found, batches: bool) -> None:
    first, second = found(matrices, batches)

    assert set(second.values()) == {None}
    for name, (make, loss, targets) in MATRICES.items():
        truth = oracles.as_matrix(make(net(), loss, (X, targets), dtype=torch.float64))
        assert torch.allclose(first[name], truth, rtol=1e-12, atol=1e-14), name


def test_estimates_of_two_processes_are_those_of_one(found: Found) -> None:
    first, second = found(estimates)

    operator = hessian(net(), LOSS, (X, Y), weight_decay=0.1)
    values, converged, scaled, estimate = first
    assert second is None
    assert converged
    assert values.tolist() == pytest.approx(top_eigenpairs(operator, k=2).values.tolist(), abs=1e-6)
    assert torch.allclose(
        scaled, oracles.as_matrix(preconditioned(operator, torch.arange(1.0, 45))), atol=1e-6
    )
    assert estimate == pytest.approx(float(oracles.as_matrix(operator).trace()), rel=1e-4)


def test_a_wrapped_model_is_unwrapped(found: Found) -> None:
    first, _ = found(wrapped)

    assert oracles.near(first, oracles.as_matrix(hessian(net(), LOSS, (X, Y), dtype=torch.float64)))


OF_PROCESS_1 = "process 1 failed: "
FAILURES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str, str]] = {
    "product of the second": (
        failing_product,
        (1,),
        OF_PROCESS_1 + "MemoryError: no room",
        "no room in process 1",
    ),
    "product of the first": (failing_product, (0,), "no room in process 0", "process 0 failed: MemoryError"),
    "decision": (
        failing_decision,
        (),
        "division by zero",
        "process 0 failed: ZeroDivisionError: division by zero",
    ),
    "data": (failing_data, (), OF_PROCESS_1 + "ValueError: the targets range", "the targets range from 7"),
    "weights": (other_weights, (), "process 1 has another 2.bias", "process 1 has another 2.bias"),
    "arguments": (
        other_arguments,
        (),
        "process 1 asks for the Hessian + 1 I",
        "and process 0 for the Hessian in",
    ),
    "sum and mean": (sum_and_mean, (), "is a sum, and the other a mean", "is a sum, and the other a mean"),
    "own loss": (unknown_denominator, (), "give denominator=", "give denominator="),
    "denominator": (wrong_denominator, (), "does not fit the loss", "does not fit the loss"),
    "batch norm": (batch_statistics, (), "batch norm that uses batch", "batch norm that uses batch"),
    "changed": (
        changed_model,
        (),
        OF_PROCESS_1 + "ValueError: the model or",
        "another value at a later call",
    ),
    "alone": (without_others, (), "call on_first_process(", "call on_first_process("),
    "FSDP": (sharded_parameters, (), "are sharded (FSDP or DTensor)", "are sharded (FSDP or DTensor)"),
}


@pytest.mark.parametrize(("task", "arguments", "first", "second"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_in_one_process_ends_all_with_its_message(
    found: Found, task: Callable[..., Any], arguments: Any, first: str, second: str
) -> None:
    messages = found(task, *arguments)

    assert first in messages[0]
    assert second in messages[1]


def test_a_group_is_a_process_group() -> None:
    with pytest.raises(TypeError, match="group is True; give a process group, such as"):
        hessian(net(), LOSS, (X, Y), group=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the Hessian is of one process; give one that was made with group="):
        on_first_process(top_eigenpairs, hessian(net(), LOSS, (X, Y)))
