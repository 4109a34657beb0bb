"""Plain values for JSON, which has no word for what is not finite."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """Return dicts, lists and numbers with None for every number that is not finite."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
