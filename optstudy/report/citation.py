"""Select the entries of references.bib that a report's Methods cite."""

import re
from collections.abc import Iterable
from importlib import resources

_KEY = r"[\w:.+/-]+"


def bibtex(text: str, cites: Iterable[str] = ()) -> str:
    """Return the BibTeX entries that a text cites as ``[@key]``, in the order of citation.

    Args:
        text: The text.
        cites: The ``cite`` of space files, each an entry or a key; entries are added to the packaged ones.

    Returns:
        The entries; keys without an entry are omitted.
    """
    packaged = resources.files("optstudy.report").joinpath("references.bib").read_text().split("\n\n")
    entries = {_key(entry): entry.strip() + "\n" for entry in (*packaged, *cites) if _is_entry(entry)}
    keys = dict.fromkeys(re.findall(rf"\[@({_KEY})\]", text))
    return "\n".join(entries[key] for key in keys if key in entries)


def citation(cite: str) -> str:
    """Return the citation of an entry or a key, after a space; empty if there is nothing to cite."""
    return f" [@{_key(cite)}]" if cite else ""


def _is_entry(cite: str) -> bool:
    return cite.lstrip().startswith("@")


def _key(cite: str) -> str:
    match = re.match(rf"\s*@\w+\{{\s*({_KEY})\s*,", cite)
    return match[1] if match else cite
