"""Description of one key in the TOML files that users write."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """One key of a user's file; the parser and the documentation share the same table of keys."""

    name: str
    default: str  # as written in the file; empty if the key is required
    meaning: str
    values: str  # allowed values
    group: str = ""  # the TOML table that contains it; empty for a top-level key
