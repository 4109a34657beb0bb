"""Datasets as uint8 tensors in memory, seeded splits of them, and seeded batches."""

from optstudy.workloads.batches import batches, epoch_order, prepare, sample
from optstudy.workloads.dataset import Dataset, describe
from optstudy.workloads.datasets import NAMES, OtherDataError, check_dataset, load, load_description
from optstudy.workloads.splits import Parts, load_parts, parts

__all__ = [
    "NAMES",
    "Dataset",
    "OtherDataError",
    "Parts",
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
