"""What users may write in a file of theirs, key by key."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """One key of a file that users write; the parser and the documentation read the same table of them."""

    name: str
    default: str  # as it is written in the file; empty where the key must be given
    meaning: str
    values: str  # what it may be
    group: str = ""  # the table that it stands in; empty at the top of the file
