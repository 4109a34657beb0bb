"""Alias of `optstudy.Dataset` for the data files that users write."""

from optstudy.workloads.dataset import Dataset

__all__ = ["Dataset"]
