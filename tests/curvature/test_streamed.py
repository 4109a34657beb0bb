"""Data are read batch by batch: memory does not grow with their number."""

import os
import subprocess
import sys

import pytest

MEASURE = """
import resource, sys, torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from optstudy.curvature import gauss_newton, hessian, top_eigenpairs

torch.set_num_threads(1)


class Stream(IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(self.count):  # 1 MB a batch
            yield torch.randn(260, 1000, generator=generator), torch.randint(3, (260,), generator=generator)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def own_loss(outputs, targets):  # whose denominator is asked of all batches
    return functional.cross_entropy(outputs, targets)


model = nn.Sequential(nn.Linear(1000, 5), nn.Tanh(), nn.Linear(5, 3))
loss = {"torch's": functional.cross_entropy, "own": own_loss}[sys.argv[1]]
for count in (4, 34):
    loader = DataLoader(Stream(count), batch_size=None)
    top_eigenpairs(hessian(model, loss, loader), k=1, tolerance=0.1, probability=None)
    gauss_newton(model, loss, loader).apply(torch.ones(2, 5023))
    print(peak())
"""


@pytest.mark.parametrize("loss", ["torch's", "own"])
def test_memory_does_not_grow_with_the_number_of_batches(loss: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, loss], capture_output=True, text=True, check=True, env={**os.environ}
    )

    few, many = map(int, done.stdout.split())
    assert many - few < 12_000  # KiB; the batches more have 30,000
