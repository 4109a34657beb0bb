"""A data set is checked when it is made, and described by what it holds."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from optstudy.errors import UsageError
from optstudy.workloads.dataset import Dataset, describe


def images(count: int, size: int = 4) -> Tensor:
    return torch.arange(count * size * size).remainder(256).to(torch.uint8).reshape(count, 1, size, size)


def dataset(**changes: Any) -> Dataset:
    parts: dict[str, Any] = {
        "train_x": images(4),
        "train_y": torch.tensor([0, 1, 0, 1]),
        "test_x": images(2),
        "test_y": torch.tensor([1, 0]),
        "classes": ("cat", "dog"),
    }
    return Dataset(**{**parts, **changes})


def test_floating_examples_may_have_any_shape() -> None:
    made = dataset(train_x=torch.zeros(4, 7), test_x=torch.zeros(2, 7))

    assert describe(made, "data.py:load").shape == (7,)


def test_classes_may_be_a_list_and_become_a_tuple() -> None:
    assert dataset(classes=["cat", "dog"]).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("cat", "cat")}, "classes has 'cat' 2 times; give each class a name of its own"),
        ({"classes": ("cat", 1, "dog", "1")}, "classes has '1' 2 times; give each class a name of its own"),
        ({"train_x": images(3)}, "train_x has 3 examples and train_y 4 labels; give one label for each"),
        (
            {"test_y": torch.tensor([0, 2])},
            "test_y has labels from 0 to 2; with 2 classes they must be from 0 to 1",
        ),
        ({"train_y": torch.tensor([0, -1, 0, 1])}, "train_y has labels from -1 to 1; with 2 classes"),
        ({"train_y": torch.zeros(4)}, "train_y has shape (4,) and torch.float32; give int64 labels"),
        ({"train_y": torch.zeros(4, 1, dtype=torch.int64)}, "train_y has shape (4, 1) and torch.int64"),
        (
            {"train_x": images(4).int()},
            "train_x has torch.int32; give uint8 images or floating-point examples",
        ),
        (
            {"train_x": images(4)[:, 0]},
            "train_x has shape (4, 4, 4); uint8 images must have shape (n, c, h, w)",
        ),
        ({"test_x": images(0)}, "test_x is empty, with shape (0, 1, 4, 4)"),
        ({"test_x": images(2, size=5)}, "test_x of shape (1, 5, 5) and torch.uint8; they must be the same"),
        ({"test_x": images(2).float()}, "test_x of shape (1, 4, 4) and torch.float32; they must be the same"),
        ({"train_x": torch.full((4, 7), torch.nan)}, "train_x has values that are not finite"),
        ({"train_x": [1, 2, 3, 4]}, "train_x is of type list; give a tensor"),
        ({"train_x": torch.zeros(4, 1, device="meta")}, "train_x is on meta; move it to the CPU"),
        ({"classes": 2}, "classes is 2; give the name of each class"),
        ({"classes": "ab"}, "classes is 'ab'; give the name of each class"),
        ({"classes": ()}, "classes is (); give the name of each class"),
    ],
)
def test_parts_that_do_not_fit_are_an_error_with_the_numbers(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        dataset(**changes)

    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_description_has_name_sizes_classes_shape_and_dtype() -> None:
    found = describe(dataset(), "data.py:load")

    assert (found.name, found.train, found.test) == ("data.py:load", 4, 2)
    assert (found.classes, found.shape, found.dtype) == (("cat", "dog"), (1, 4, 4), "uint8")


def test_equal_content_has_one_checksum_wherever_it_lies_in_memory() -> None:
    turned = images(4).transpose(2, 3).contiguous().transpose(2, 3)

    assert describe(dataset(train_x=turned), "a").checksum == describe(dataset(), "b").checksum


@pytest.mark.parametrize(
    "changes",
    [
        {"train_x": images(4).flip(0)},
        {"train_y": torch.tensor([1, 1, 0, 1])},
        {"test_x": images(2) + 1},
        {"test_y": torch.tensor([0, 0])},
        {"classes": ("dog", "cat")},
        {"train_x": images(4).reshape(4, 1, 2, 8), "test_x": images(2).reshape(2, 1, 2, 8)},
        {"train_x": images(4).float(), "test_x": images(2).float()},
    ],
    ids=["train_x", "train_y", "test_x", "test_y", "classes", "shape", "dtype"],
)
def test_any_difference_changes_the_checksum(changes: dict[str, Any]) -> None:
    assert describe(replace(dataset(), **changes), "a").checksum != describe(dataset(), "a").checksum
