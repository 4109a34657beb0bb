"""The Hessian over data that are spread over two processes of this machine."""

import os
import socket
from multiprocessing import get_context

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import hessian, on_first_process, top_eigenpairs


def work(rank: int, port: int) -> None:
    """Give this process's shard of the data; torchrun would call a script once for each process instead."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    inputs, targets = torch.randn(200, 8), torch.randint(0, 3, (200,))
    shard = slice(0, 150) if rank == 0 else slice(150, 200)

    operator = hessian(model, cross_entropy, (inputs[shard], targets[shard]), group=dist.group.WORLD)
    pairs = on_first_process(lambda whole: top_eigenpairs(whole, k=2), operator)
    if pairs is not None:  # in the first process
        print(f"over all data: {pairs.values[0]:.4f} and {pairs.values[1]:.4f}, {pairs.ratio.verdict}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [get_context("spawn").Process(target=work, args=(rank, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
