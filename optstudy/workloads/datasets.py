"""Load the built-in data sets by name (add new ones here), and the user's own by reference."""

from functools import cache, lru_cache
from pathlib import Path

from optstudy.errors import UsageError, suggestion
from optstudy.records.plan import DatasetDescription
from optstudy.workloads import downloads, mnist
from optstudy.workloads.dataset import Dataset, describe
from optstudy.workloads.user_code import call, is_user_code, load_object

NAMES = ("mnist", "fashion-mnist", "cifar10")


def load(reference: str) -> Dataset:
    """Return a data set, which is read once per process.

    Fashion-MNIST and CIFAR-10 are read from the folder ``OPTSTUDY_DATA_DIR`` (default: ``data``), and downloaded to it
    if they are absent; only one process at a time may download them.

    Args:
        reference: ``mnist``, ``fashion-mnist``, ``cifar10``, or ``data.py:load``, a function without
            arguments that returns a `Dataset`.

    Raises:
        UsageError: If there is no such data set, or the user's function fails or returns something else.
        OptstudyError: If files are missing or corrupt.
    """
    match reference:
        case "mnist":
            return mnist.load()
        case "fashion-mnist":
            return downloads.fashion_mnist(downloads.data_folder())
        case "cifar10":
            return downloads.cifar10(downloads.data_folder())
        case _ if is_user_code(reference):
            return _load_user_dataset(reference, Path.cwd())
    raise UsageError(_unknown_dataset(reference))


def check_dataset(reference: str) -> None:
    """Raise UsageError unless the data set, or the function that loads it, exists; nothing is loaded."""
    if is_user_code(reference):
        load_object(reference)
    elif reference not in NAMES:
        raise UsageError(_unknown_dataset(reference))


def load_description(reference: str) -> DatasetDescription:
    """Return the description of a data set; see `load`. Cached per process, since the checksum is slow."""
    return _cached_description(load(reference), reference)


def check_reloaded(reference: str) -> None:
    """Load the user's own data set a second time, and raise DataChangedError if it has changed."""
    if is_user_code(reference):
        again = _load_user_dataset.__wrapped__(reference, Path.cwd())
        if describe(again, reference).checksum != load_description(reference).checksum:
            raise DataChangedError(reference)


class DataChangedError(UsageError):
    """A data set differs from the one that earlier results depend on."""

    def __init__(self, reference: str) -> None:
        """Build the message for the data set with this reference."""
        super().__init__(
            f"{reference} returned different data than before; it must return the same data each time, in every"
            " process, for example with fixed seeds (if you changed the data on purpose, use another --study)"
        )


@lru_cache(maxsize=4)
def _cached_description(dataset: Dataset, reference: str) -> DatasetDescription:
    return describe(dataset, reference)


def _unknown_dataset(reference: str) -> str:
    return (
        f"'{reference}' is not a data set{suggestion(reference, NAMES)};"
        f" there are {', '.join(NAMES)}, or your own function as data.py:load"
    )


@cache
def _load_user_dataset(reference: str, folder: Path) -> Dataset:  # noqa: ARG001 - part of the cache key: the same reference in two folders
    dataset = call(reference)
    if not isinstance(dataset, Dataset):
        raise UsageError(
            f"{reference} returned an object of type {type(dataset).__name__}, not an optstudy.Dataset"
        )
    return dataset
