"""Show text of stores, archives and files without its control characters."""

import unicodedata

_JOINERS = "\u200c\u200d"  # part of words in Persian, of scripts of India, and of emoji


def printable(text: str, keep: str = "") -> str:
    r"""Escape characters that a terminal would obey and not show, as Python does: ``\x1b``, ``\n``, ``\u202e``.

    These are control characters, marks that change the direction of text or have no width, line separators, and
    surrogates.

    Args:
        text: Any text.
        keep: Characters to leave as they are, such as line breaks.
    """
    return "".join(
        letter.encode("unicode_escape").decode() if _is_hidden(letter) and letter not in keep else letter
        for letter in text
    )


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter not in _JOINERS
