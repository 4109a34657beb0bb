"""Plain values for JSON, which has no word for what is not finite."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """Return dicts and numbers with None for every number that is not finite."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
