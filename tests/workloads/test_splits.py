"""Splits have the sizes asked for, keep the classes' shares, and never leak."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optstudy.errors import UsageError
from optstudy.records.plan import Split
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.splits import LabelledImages, load_split, split_dataset

POISON = -1.0
unhurried = settings(deadline=None)  # a busy machine fails no test


def dataset(labels: list[int], test: float = POISON) -> Dataset:
    """Return a data set whose example i is the number i, so that each can be recognised."""
    return Dataset(
        train_x=torch.arange(len(labels), dtype=torch.float64)[:, None],
        train_y=torch.tensor(labels),
        test_x=torch.full((3, 1), test, dtype=torch.float64),
        test_y=torch.zeros(3, dtype=torch.int64),
        classes=tuple("abcdef"),
    )


@st.composite
def tuning_splits(draw: st.DrawFn) -> tuple[Dataset, Split]:
    labels = draw(st.lists(st.integers(0, 5), min_size=2, max_size=80))
    validation = draw(st.integers(1, len(labels) - 1))
    size = draw(st.integers(0, len(labels) - validation))
    return dataset(labels), Split("tuning", validation, size, draw(st.integers(0, 2**40)))


def numbers(x: torch.Tensor) -> list[int]:
    return [int(value) for value in x[:, 0]]


def same(one: tuple[LabelledImages, LabelledImages], other: tuple[LabelledImages, LabelledImages]) -> bool:
    tensors, others = (*one[0], *one[1]), (*other[0], *other[1])
    return all(map(torch.equal, tensors, others))


@unhurried
@given(tuning_splits())
def test_both_parts_are_disjoint_and_of_exactly_the_given_sizes(case: tuple[Dataset, Split]) -> None:
    data, split = case

    (train_x, _), (heldout_x, _) = split_dataset(data, split)

    train, heldout = numbers(train_x), numbers(heldout_x)
    assert len(heldout) == split.validation
    assert len(train) == (split.size or len(data.train_y) - split.validation)
    assert len({*train, *heldout}) == len(train) + len(heldout)
    assert train == sorted(train)
    assert heldout == sorted(heldout)


@unhurried
@given(tuning_splits())
def test_every_image_keeps_its_label(case: tuple[Dataset, Split]) -> None:
    data, split = case

    for x, y in split_dataset(data, split):
        assert y.tolist() == [int(data.train_y[number]) for number in numbers(x)]


@unhurried
@given(tuning_splits())
def test_each_class_has_its_share_to_within_one_image(case: tuple[Dataset, Split]) -> None:
    data, split = case

    (_, train_y), (_, heldout_y) = split_dataset(data, split)

    everything, heldout = Counter(data.train_y.tolist()), Counter(heldout_y.tolist())
    rest, train = everything - heldout, Counter(train_y.tolist())
    for label, count in everything.items():
        assert abs(heldout[label] - count * split.validation / everything.total()) < 1
        assert abs(train[label] - rest[label] * train.total() / rest.total()) < 1


@unhurried
@given(tuning_splits(), st.integers(0, 2**40))
def test_a_split_depends_on_its_seed_and_not_on_the_global_generator(
    case: tuple[Dataset, Split], disturbance: int
) -> None:
    data, split = case
    first = split_dataset(data, split)
    torch.manual_seed(disturbance)
    before = torch.get_rng_state()

    assert same(split_dataset(data, split), first)
    assert torch.equal(torch.get_rng_state(), before)


@unhurried
@given(tuning_splits())
def test_tuning_never_sees_the_test_set(case: tuple[Dataset, Split]) -> None:
    data, split = case

    found = split_dataset(data, split)

    assert all(POISON not in numbers(x) for x, _ in found)
    assert same(split_dataset(dataset(data.train_y.tolist(), test=7.0), split), found)


@unhurried
@given(tuning_splits())
def test_held_out_images_do_not_depend_on_the_training_size(
    case: tuple[Dataset, Split],
) -> None:
    data, split = case

    _, (all_heldout, _) = split_dataset(data, replace(split, size=0))
    _, (heldout, _) = split_dataset(data, split)

    assert torch.equal(heldout, all_heldout)


def test_two_seeds_draw_two_splits() -> None:
    data = dataset([0, 1] * 50)

    splits = (split_dataset(data, Split("tuning", 20, 0, seed)) for seed in range(20))
    drawn = {tuple(numbers(heldout)) for _, (heldout, _) in splits}

    assert len(drawn) == 20


def test_final_trains_on_all_and_holds_out_the_test_set() -> None:
    data = dataset([0, 1, 0, 1])

    found = split_dataset(data, Split("final", validation=100, seed=3))

    assert same(found, ((data.train_x, data.train_y), (data.test_x, data.test_y)))


def test_final_on_fewer_images_draws_them_by_class_and_still_holds_out_the_test_set() -> None:
    data = dataset([0] * 60 + [1] * 30 + [2] * 10)

    (_, labels), (heldout, _) = split_dataset(data, Split("final", validation=95, size=50, seed=3))

    assert labels.bincount().tolist() == [30, 15, 5]
    assert torch.equal(heldout, data.test_x)


@pytest.mark.parametrize(
    ("split", "numbers_named"),
    [
        (
            Split("tuning", 3, 2),
            "the training set has 4 examples, too few to hold out 3 for validation and train on 2",
        ),
        (Split("tuning", 4), "too few to hold out 4 for validation and train on at least 1"),
        (Split("final", size=5), "the training set has 4 examples, too few to train on 5"),
    ],
)
def test_a_split_of_more_images_than_there_are_is_an_error(split: Split, numbers_named: str) -> None:
    with pytest.raises(UsageError, match=numbers_named):
        split_dataset(dataset([0, 1, 0, 1]), split)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tuning", 0), "hold out at least 1"),
        (("final", -1), "holds out -1 examples"),
        (("tuning", 5, -1), "a split's size is -1; it must be 0 to "),
        (("tuning", 5, 0, -2), "a split's seed is -2; it must be 0 to "),
        (("test", 5), "role is tuning or final, not 'test'"),
    ],
)
def test_an_invalid_split_is_an_error(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Split(*arguments)  # type: ignore[arg-type]  # what a caller without a type checker may do


def test_mnist_is_divided_once_a_process_and_exactly() -> None:
    split = Split("tuning", 5_000, 10_000, seed=1)

    found = load_split("mnist", split)

    assert load_split("mnist", Split("tuning", 5_000, 10_000, seed=1)) is found
    assert [len(labels) for _, labels in found] == [10_000, 5_000]
    assert load_split("mnist", Split("final"))[0][0].shape == (60_000, 1, 32, 32)
