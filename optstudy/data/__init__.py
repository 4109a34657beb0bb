"""Datasets as uint8 tensors in memory, seeded splits of them, and seeded batches."""

from optstudy.data.batches import batches, epoch_order, prepare, sample
from optstudy.data.catalogue import NAMES, OtherDataError, check_dataset, load, load_description
from optstudy.data.dataset import Dataset, Description, describe
from optstudy.data.split import Parts, Split, load_parts, parts

__all__ = [
    "NAMES",
    "Dataset",
    "Description",
    "OtherDataError",
    "Parts",
    "Split",
    "batches",
    "check_dataset",
    "describe",
    "epoch_order",
    "load",
    "load_description",
    "load_parts",
    "parts",
    "prepare",
    "sample",
]
