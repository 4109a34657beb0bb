"""A tracker as a probe of a training run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import oracles
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from optstudy.curvature import EigenTracker
from optstudy.training import advance, start


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Any]:
    with cases.project(tmp_path):
        yield cases.plan()


def sample(shuffled: bool) -> Any:
    x = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(50) % 4
    return DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True) if shuffled else (x, y)


@pytest.mark.parametrize("shuffled", [False, True], ids=["one batch", "shuffling loader"])
def test_training_gives_the_same_bits_with_and_without(plan: Any, shuffled: bool) -> None:
    """The net has batch norm, and dropout that reads the generator."""
    probe = EigenTracker(functional.cross_entropy, sample(shuffled), range(100), verify_every=2)
    without, _ = advance(start(plan), plan, plan.epochs)

    watched, history = advance(start(plan), plan, plan.epochs, [probe])

    assert len(history.observations) == watched.step > 1
    assert oracles.same([*without.model.values()], [*watched.model.values()])
    assert oracles.same([*without.generators.values()], [*watched.generators.values()])


def test_a_run_resumed_between_epochs_has_the_same_observations(plan: Any) -> None:
    probe = EigenTracker(functional.cross_entropy, sample(shuffled=False), range(100), verify_every=3)
    plan = replace(plan, epochs=2)
    _, whole = advance(start(plan), plan, 2, [probe])
    state, first = advance(start(plan), plan, 1, [probe])

    _, second = advance(type(state).from_bytes(state.to_bytes()), plan, 2, [probe])

    assert repr(first.observations + second.observations) == repr(whole.observations)
