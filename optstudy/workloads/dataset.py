"""A data set: images, labels and class names, validated once."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optstudy.errors import UsageError
from optstudy.records.plan import DatasetDescription


@dataclass(frozen=True, eq=False)  # compared by identity, since == of tensors is elementwise
class Dataset:
    """Training and test examples, in main memory.

    Images are uint8 of shape ``(n, c, h, w)``, which are scaled to [0, 1] for a model, or floating-point of any shape
    ``(n, ...)``, which are not scaled. The tensors are shared between all users: do not write to them.

    Raises:
        UsageError: If the parts do not fit together.
    """

    train_x: Tensor  # (n, ...)
    train_y: Tensor  # (n,) int64, from 0
    test_x: Tensor  # (m, ...), shape and dtype of an example as in train_x
    test_y: Tensor  # (m,) int64
    classes: tuple[str, ...]  # a name for each label, in the order of the labels

    def __post_init__(self) -> None:
        if isinstance(self.classes, str) or not isinstance(self.classes, tuple | list) or not self.classes:
            raise UsageError(
                f"classes is {self.classes!r}; give the name of each class, for example ('cat', 'dog')"
            )
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        _check_names(self.classes)
        _check_part("train", self.train_x, self.train_y, self.classes)
        _check_part("test", self.test_x, self.test_y, self.classes)
        train, test = (self.train_x.shape[1:], self.train_x.dtype), (self.test_x.shape[1:], self.test_x.dtype)
        if train != test:
            raise UsageError(
                f"train_x has examples of shape {tuple(train[0])} and {train[1]}, "
                f"test_x of shape {tuple(test[0])} and {test[1]}; they must be the same"
            )


def describe(dataset: Dataset, reference: str) -> DatasetDescription:
    """Return the description of a data set; its checksum takes about 0.1 s for MNIST."""
    digest = hashlib.sha256(repr(dataset.classes).encode())
    for tensor in (dataset.train_x, dataset.train_y, dataset.test_x, dataset.test_y):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return DatasetDescription(
        name=reference,
        checksum=digest.hexdigest(),
        train=len(dataset.train_y),
        test=len(dataset.test_y),
        classes=dataset.classes,
        shape=tuple(dataset.train_x.shape[1:]),
        dtype=str(dataset.train_x.dtype).removeprefix("torch."),
    )


def _check_names(classes: Sequence[str]) -> None:
    name, count = Counter(classes).most_common(1)[0]
    if count > 1:
        raise UsageError(f"classes has {name!r} {count} times; give each class a name of its own")


def _check_part(part: str, x: Tensor, y: Tensor, classes: tuple[str, ...]) -> None:
    for name, tensor in ((f"{part}_x", x), (f"{part}_y", y)):
        if not isinstance(tensor, Tensor):
            raise UsageError(f"{name} is of type {type(tensor).__name__}; give a tensor")
        if tensor.ndim == 0 or tensor.numel() == 0:
            raise UsageError(f"{name} is empty, with shape {tuple(tensor.shape)}; give at least one example")
        if tensor.device.type != "cpu":
            raise UsageError(
                f"{name} is on {tensor.device}; move it to the CPU; the study copies it to its own device"
            )
    _check_images(f"{part}_x", x)
    if y.dtype != torch.int64 or y.ndim != 1:
        raise UsageError(
            f"{part}_y has shape {tuple(y.shape)} and {y.dtype}; give int64 labels of shape (n,)"
        )
    if len(x) != len(y):
        raise UsageError(
            f"{part}_x has {len(x)} examples and {part}_y {len(y)} labels; give one label for each example"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= len(classes):
        raise UsageError(
            f"{part}_y has labels from {low} to {high}; "
            f"with {len(classes)} classes they must be from 0 to {len(classes) - 1}"
        )


def _check_images(name: str, x: Tensor) -> None:
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise UsageError(f"{name} has {x.dtype}; give uint8 images or floating-point examples")
    if x.dtype == torch.uint8 and x.ndim != 4:  # noqa: PLR2004 - count, channels, height, width
        raise UsageError(f"{name} has shape {tuple(x.shape)}; uint8 images must have shape (n, c, h, w)")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise UsageError(f"{name} has values that are not finite; remove or impute them")
