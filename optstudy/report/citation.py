"""BibTeX of what the Methods paragraph cites."""

import re
from importlib import resources


def bibtex(text: str) -> str:
    """Return the entries that a text cites as ``[@key]``, in the order in which it does.

    A key without an entry, as that of an optimizer of the user's own, gets none.
    """
    entries = _entries()
    keys = dict.fromkeys(re.findall(r"\[@([\w-]+)\]", text))
    return "\n".join(entries[key] for key in keys if key in entries)


def cited(key: str) -> str:
    """Return how a paragraph cites what has an entry, and nothing for what has none."""
    return f" [@{key}]" if key in _entries() else ""


def _entries() -> dict[str, str]:
    source = resources.files("optstudy.report").joinpath("references.bib").read_text()
    found = {}
    for entry in source.split("\n\n"):
        match = re.match(r"@\w+\{([\w-]+),", entry.strip())
        if match:
            found[match[1]] = entry.strip() + "\n"
    return found
