"""An epoch's batches depend on the seed and the epoch, and on nothing that ran before."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.functional import to_tensor

from optstudy.workloads.batches import batches, epoch_order, prepare

unhurried = settings(deadline=None)  # a busy machine fails no test
SEEDS, EPOCHS = st.integers(0, 2**40), st.integers(0, 10_000)


@unhurried
@given(st.integers(0, 300), SEEDS, EPOCHS)
def test_an_epoch_visits_each_example_once(n: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(n, seed, epoch).tolist()) == list(range(n))


@unhurried
@given(SEEDS, EPOCHS, SEEDS)
def test_the_order_neither_reads_nor_changes_the_global_generator(
    seed: int, epoch: int, disturbance: int
) -> None:
    order = epoch_order(100, seed, epoch)
    torch.manual_seed(disturbance)
    before = torch.get_rng_state()

    assert torch.equal(epoch_order(100, seed, epoch), order)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_epochs_of_no_two_seeds_share_an_order() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(30) for epoch in range(30)}

    assert len(orders) == 900


def test_positions_in_the_order_are_uniform() -> None:
    first = [int(epoch_order(10, seed, 1)[0]) for seed in range(2_000)]

    counts = np.bincount(first, minlength=10)

    chi_squared = float(((counts - 200) ** 2 / 200).sum())
    assert chi_squared < 27.9  # the 99.9 % point with 9 degrees of freedom; the draw is fixed by its seeds


@unhurried
@given(st.integers(1, 60), st.integers(1, 70), SEEDS, EPOCHS)
def test_batches_hold_the_epoch_in_order_with_the_last_one_short(
    n: int, size: int, seed: int, epoch: int
) -> None:
    x, y = torch.arange(n)[:, None] * 10, torch.arange(n)

    drawn = list(batches(x, y, size, seed, epoch))

    assert torch.equal(torch.cat([labels for _, labels in drawn]), epoch_order(n, seed, epoch))
    assert all(torch.equal(examples[:, 0], labels * 10) for examples, labels in drawn)
    assert [len(labels) for _, labels in drawn] == [size] * (n // size) + [n % size] * (n % size > 0)


def test_epochs_can_be_drawn_in_any_order_and_concurrently() -> None:
    x = y = torch.arange(20)

    alone = [labels.tolist() for _, labels in batches(x, y, 5, 0, 2)]
    both = zip(batches(x, y, 5, 0, 1), batches(x, y, 5, 0, 2), strict=True)

    assert [second[1].tolist() for _, second in both] == alone


def test_images_are_scaled_to_the_values_of_to_tensor() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)

    found = prepare(images)

    assert found.dtype == torch.float32
    assert torch.equal(found[0], to_tensor(images[0, 0].numpy()))
    assert torch.equal(images.flatten(), torch.arange(256, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_floating_examples_are_not_changed(dtype: torch.dtype) -> None:
    examples = torch.tensor([[-3.0, 300.0]], dtype=dtype)

    assert prepare(examples) is examples
