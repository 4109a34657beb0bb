"""Select the entries of references.bib that a report's Methods cite."""

import re
from collections.abc import Iterable
from importlib import resources

from optstudy.errors import suggestion

_KEY = r"[\w:.+/-]+"


def bibtex(text: str, cites: Iterable[str] = ()) -> str:
    """Return the BibTeX entries that a text cites as ``[@key]``, in the order of citation.

    Args:
        text: The text.
        cites: The ``cite`` of space files, each an entry or a key; entries are added to the packaged ones.

    Returns:
        The entries; keys without an entry are omitted.
    """
    entries = _entries(cites)
    keys = dict.fromkeys(re.findall(rf"\[@({_KEY})\]", text))
    return "\n".join(entries[key] for key in keys if key in entries)


def unknown_citations(cites: Iterable[str]) -> list[str]:
    """Return a remark for each ``cite`` of a space file that is a key without an entry."""
    cites = [*filter(None, cites)]
    known = _entries(cites)
    return [
        f"cite is {cite!r} in a space file, a key without a BibTeX entry{suggestion(cite, known)};"
        ' give the entry itself, cite = "@article{key, ...}", or add it to the bibliography of your paper'
        for cite in dict.fromkeys(cites)
        if _key(cite) not in known
    ]


def _entries(cites: Iterable[str]) -> dict[str, str]:
    """Return the packaged BibTeX entries, and those among ``cites``, by key."""
    packaged = resources.files("optstudy.report").joinpath("references.bib").read_text().split("\n\n")
    return {_key(entry): entry.strip() + "\n" for entry in (*packaged, *cites) if _is_entry(entry)}


def citation(cite: str) -> str:
    """Return the citation of an entry or a key, after a space; empty if there is nothing to cite."""
    return f" [@{_key(cite)}]" if cite else ""


def _is_entry(cite: str) -> bool:
    return cite.lstrip().startswith("@")


def _key(cite: str) -> str:
    match = re.match(rf"\s*@\w+\{{\s*({_KEY})\s*,", cite)
    return match[1] if match else cite
