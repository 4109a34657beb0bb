"""Short representations of records: numbers in four digits, and the shape and type of large tensors."""

from typing import Any

import torch
from torch import Tensor

MAX_NUMBERS = 8  # of a tensor that is shown in full


def short_repr(record: object, *names: str) -> str:
    """Return ``Class(name=value, ...)`` with some of a record's attributes.

    Example:
        >>> from types import SimpleNamespace
        >>> short_repr(SimpleNamespace(a=torch.tensor([1 / 3, 2.0]), b=torch.zeros(2, 9), c=True, d="x"), *"abcd")
        "SimpleNamespace(a=[0.3333, 2], b=(2, 9) float32, c=True, d='x')"
    """
    shown = ", ".join(f"{name}={_short(getattr(record, name))}" for name in names)
    return f"{type(record).__name__}({shown})"


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        if value.ndim == 1 and len(value) <= MAX_NUMBERS:
            return f"[{', '.join(f'{number:.4g}' for number in value.tolist())}]"
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))}{',' * (len(value) == 1)})"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
