"""Where users' own data files import `Dataset` from; `from optstudy import Dataset` is the same."""

from optstudy.workloads.dataset import Dataset

__all__ = ["Dataset"]
