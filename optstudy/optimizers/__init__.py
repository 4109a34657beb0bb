"""Optimizers: how to build them, implementations that torch lacks, and their space files.

``tuning/spaces/NAME.toml`` holds an optimizer's search space, label, colour and citation.
"""

from typing import TYPE_CHECKING, Any

from optstudy.optimizers.catalogue import (
    find_spaces,
    load_space,
    packaged_optimizers,
    read_looks,
)
from optstudy.optimizers.space_file import parse_space

if TYPE_CHECKING:
    from optstudy.optimizers.adahessian import AdaHessian as AdaHessian
    from optstudy.optimizers.build import OptimizerError as OptimizerError
    from optstudy.optimizers.build import build_optimizer as build_optimizer
    from optstudy.optimizers.build import load_factory as load_factory

__all__ = [
    "AdaHessian",
    "OptimizerError",
    "build_optimizer",
    "find_spaces",
    "load_factory",
    "load_space",
    "packaged_optimizers",
    "parse_space",
    "read_looks",
]


def __getattr__(name: str) -> Any:
    # These import torch, which takes seconds; `optstudy optimizers` only reads space files.
    if name == "AdaHessian":
        from optstudy.optimizers.adahessian import AdaHessian

        return AdaHessian
    if name in ("build_optimizer", "load_factory", "OptimizerError"):
        from optstudy.optimizers import build

        return getattr(build, name)
    raise AttributeError(f"module 'optstudy.optimizers' has no attribute {name!r}")
