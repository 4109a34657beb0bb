"""One operator over the data of several processes: each has a shard, and the first decides everything."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from optstudy.curvature.containers import describe
from optstudy.curvature.objective import Objective
from optstudy.curvature.repeatability import digest

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from optstudy.curvature.operators import Operator

T = TypeVar("T")

STOP, PRODUCT, CHECK = range(3)  # what the first process asks of the others
DTYPES = (torch.float32, torch.float64)


def on_first_process(function: Callable[["Operator"], T], operator: "Operator") -> T | None:
    """Call a function of an operator in the first of several processes, while the others compute products for it.

    Every process calls this with its own operator, from `hessian`, `gauss_newton` or `fisher` with ``group=``. If one
    process fails, all raise.

    Args:
        function: Computes estimates of the operator that it is given; called in the first process only.
        operator: The operator over the shards of all processes.

    Returns:
        What the function returns in the first process; None in the others.

    Raises:
        ValueError: If the operator is of one process.
        RuntimeError: If another process failed, with its message.
    """
    shards = operator.shards
    if shards is None:
        raise ValueError(
            f"the {operator.name} is of one process; give one that was made with group= on each process"
        )
    if shards.rank == 0:
        return shards.lead(lambda: function(operator))
    shards.serve()
    return None


def combined(
    read: Callable[[], Objective], build: Callable[[Objective], "Operator"], group: "ProcessGroup"
) -> "Operator":
    """Build the operator of this process's shard in each process, and combine them if all agree.

    Raises:
        TypeError: If the group is no process group.
        ValueError: If this process is not in it, or the processes hold different weights or ask for different things.
        RuntimeError: If another process failed, with its message.
    """
    rank = _rank(group)
    local, facts, error = None, None, None
    try:
        objective = read()
        local = build(objective)
        facts = _facts(objective, local)
    except Exception as caught:  # noqa: BLE001  # raised by _agreed, in all processes
        error = caught
    every = _agreed(group, error, facts)
    assert local is not None
    for other, found in enumerate(every):
        _check_alike(every[0], found, other)
    denominators = [found.denominator for found in every]
    share = 1.0 if denominators[rank] is None else denominators[rank] / sum(denominators)
    return Shards(group, rank, local, share).operator(local.dtype)


def check_not_sharded(model: nn.Module) -> None:
    """Raise ValueError for a model whose parameters are spread over processes."""
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()) or any(
        type(parameter).__name__ == "DTensor" for parameter in model.parameters()
    ):
        raise ValueError(
            "the model's parameters are sharded (FSDP or DTensor), and products need all of them in each process; load"
            " its full state_dict into a plain copy of the model"
        )


@dataclass
class Shards:
    """The part of one process in an operator over the data of several."""

    group: "ProcessGroup"
    rank: int
    local: "Operator"  # of this process's data
    share: float  # of this process's denominator in the sum of all; 1 for a sum
    running: bool = False  # whether the other processes do what the first asks
    finer: dict[torch.dtype, "Operator"] = field(default_factory=dict)  # `local` at other precisions

    def operator(self, dtype: torch.dtype) -> "Operator":
        """Return the operator over all data, at a precision."""
        return dataclasses.replace(
            self._local(dtype),
            apply=lambda rows: self._ask_product(rows.to(dtype)),
            in_dtype=self.operator,
            check_unchanged=self._ask_check,
            shards=self,
            of_few_examples=None,  # of this process alone
            in_slices=None,
        )

    def lead(self, function: Callable[[], T]) -> T:
        """Call a function that may ask all processes, and then let them go."""
        self.running = True
        try:
            result = function()
        except Exception as error:
            self._stop(error)
            raise
        self._stop(None)
        return result

    def serve(self) -> None:
        """Do what the first process asks until it is done."""
        self.running = True
        while self.running:
            command, count, kind = self._share_order(STOP)
            if command == PRODUCT:
                rows = torch.empty(count, self.local.dim, dtype=DTYPES[kind], device=self.local.device)
                self._broadcast(rows)
                self._product(rows)
            elif command == CHECK:
                self._check()
            else:
                self.running = False
                _agreed(self.group, None)

    def _stop(self, error: Exception | None) -> None:
        if self.running:  # not if all processes have failed before
            self.running = False
            self._share_order(STOP)
            _agreed(self.group, error)

    def _ask_product(self, rows: Tensor) -> Tensor:
        self._check_running()
        if rows.shape[1:] != (self.local.dim,):
            raise ValueError(f"the rows have shape {tuple(rows.shape)}; give (m, {self.local.dim})")
        self._share_order(PRODUCT, len(rows), DTYPES.index(rows.dtype))
        self._broadcast(rows.contiguous())
        return self._product(rows)

    def _ask_check(self) -> None:
        self._check_running()
        self._share_order(CHECK)
        self._check()

    def _product(self, rows: Tensor) -> Tensor:
        """Sum the products of all processes, and the number of those that failed."""
        part, error = torch.zeros_like(rows), None
        try:
            part = self._local(rows.dtype).apply(rows) * self.share
        except Exception as caught:  # noqa: BLE001  # raised in all processes
            error = caught
        summed = torch.cat([part.flatten(), part.new_tensor([float(error is not None)])])
        dist.all_reduce(summed, group=self.group)
        if summed[-1]:
            self.running = False
            _agreed(self.group, error)
        return summed[:-1].view_as(rows)

    def _check(self) -> None:
        error = None
        try:
            if self.local.check_unchanged is not None:
                self.local.check_unchanged()
        except Exception as caught:  # noqa: BLE001  # raised in all processes
            error = caught
        running, self.running = self.running, False
        _agreed(self.group, error)
        self.running = running

    def _check_running(self) -> None:
        if not self.running or self.rank:
            raise ValueError(
                f"the {self.local.name} is over the data of several processes; on each of them, call"
                " on_first_process(lambda operator: top_eigenpairs(operator), operator)"
            )

    def _local(self, dtype: torch.dtype) -> "Operator":
        if dtype == self.local.dtype:
            return self.local
        assert self.local.in_dtype is not None  # as those of all models
        if dtype not in self.finer:
            self.finer[dtype] = self.local.in_dtype(dtype)
        return self.finer[dtype]

    def _share_order(self, *order: int) -> list[int]:
        """Give the first process's order to all."""
        padded = [*order, 0, 0][:3]
        told = torch.tensor(padded, device=self.local.device)
        self._broadcast(told)
        return [int(part) for part in told]

    def _broadcast(self, tensor: Tensor) -> None:
        dist.broadcast(tensor, dist.get_global_rank(self.group, 0), group=self.group)


@dataclass(frozen=True)
class _Facts:
    """What must be alike in all processes, and the denominator of one."""

    kind: str
    names: tuple[str, ...]
    tensors: dict[str, bytes]  # digests of parameters and buffers
    denominator: float | None  # None for a sum


def _facts(objective: Objective, operator: "Operator") -> _Facts:
    return _Facts(
        kind=f"the {operator.name} in {operator.dtype}",
        names=objective.names,
        tensors={name: digest(tensor) for name, tensor in objective.tensors.items()},
        denominator=None
        if objective.denominator is None
        else sum(weight for *_, weight in objective.batches()),
    )


def _check_alike(first: _Facts, found: _Facts, other: int) -> None:
    if found.kind != first.kind or found.names != first.names:
        raise ValueError(
            f"process {other} asks for {found.kind} of {len(found.names)} parameters, and process 0 for {first.kind} of"
            f" {len(first.names)}; give all the same arguments, but for the data"
        )
    if (found.denominator is None) != (first.denominator is None):
        raise ValueError(
            f"the loss of process {other} or of process 0 is a sum, and the other a mean; give the same"
        )
    for name, value in found.tensors.items():
        if value != first.tensors.get(name):
            raise ValueError(
                f"process {other} has another {name} than process 0; send it to all with"
                " torch.distributed.broadcast, so that all compute one loss"
            )


def _agreed(group: "ProcessGroup", error: Exception | None, facts: Any = None) -> list[Any]:
    """Return what all processes say; if one has failed, raise in all of them."""
    message = None if error is None else f"{type(error).__name__}: {error}"
    said: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(said, (message, facts), group=group)
    if error is not None:
        raise error
    for rank, (failure, _) in enumerate(said):
        if failure is not None:
            raise RuntimeError(f"process {rank} failed: {failure}")
    return [found for _, found in said]


def _rank(group: Any) -> int:
    if not (dist.is_available() and dist.is_initialized() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            f"group is {describe(group)}; give a process group, such as torch.distributed.group.WORLD after"
            " init_process_group"
        )
    rank = dist.get_rank(group)
    if rank < 0:
        raise ValueError("this process is not in the group")
    return rank
