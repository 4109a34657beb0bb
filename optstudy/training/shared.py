"""Numbers that the user's classes and files hold: all runs of a process share them."""

import sys
from types import ModuleType
from typing import Any

from optstudy.workloads.user_code import is_user_module


def shared_numbers(*objects: object) -> dict[str, Any]:
    """Return the numbers that the user's classes of objects, and their files, hold as attributes, by name."""
    owners: dict[str, type | ModuleType] = {}
    for item in objects:
        for cls in (type(item), *type(item).__mro__):
            module = sys.modules.get(cls.__module__)
            if module is not None and is_user_module(module):
                owners |= {f"{cls.__module__}.{cls.__qualname__}": cls, cls.__module__: module}
        module = sys.modules.get(getattr(item, "__module__", None) or "")
        if module is not None and is_user_module(module):  # of a function
            owners[module.__name__] = module
    return {
        f"{name}.{key}": number
        for name, owner in owners.items()
        for key, value in vars(owner).items()
        if not key.startswith("__") and (number := _numbers(value)) is not None
    }


def _numbers(value: Any) -> Any:
    """Return a number, or a copy of a list or dict of numbers; None for anything else."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | dict):
        items = value.values() if isinstance(value, dict) else value
        return value.copy() if all(isinstance(item, bool | int | float) for item in items) else None
    return None
