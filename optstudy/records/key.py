"""Description of one key in the TOML files that users write."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """One key of a user's file; the parser and the documentation share the same table of keys."""

    name: str
    default: str  # as it is written in the file; empty where the key must be given
    meaning: str
    values: str  # what it may be
    group: str = ""  # the table that it stands in; empty at the top of the file
