"""Fonts for letters that the figures' own font lacks, such as those of Chinese class names."""

import contextlib
from collections.abc import Iterable
from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

FONT = "DejaVu Sans"  # packaged with matplotlib, so that figures look the same on every machine
_BOXES = "Last Resort"  # a packaged font that has a box for every character
_REGULAR = 400  # weight
_MAX_NAMED = 10  # letters in a message


def use_fonts(figure: Figure) -> str:
    """Let texts of a figure use other installed fonts for the letters that their font lacks.

    Returns:
        The letters that no installed font has, which are drawn as boxes.
    """
    for axes in figure.axes:  # ticks get their text only when it is asked for
        axes.get_xticklabels(), axes.get_yticklabels()
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and _lacking(text.get_text())]
    lacking = _lacking("".join(text.get_text() for text in texts))
    fonts, missing = _fonts_for(lacking)
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *fonts])
    return missing


def glyph_notice(texts: Iterable[str]) -> str | None:
    """Return a notice if figures show letters of the texts as boxes, since no installed font has them."""
    _, missing = _fonts_for(_lacking("".join(texts)))
    if not missing:
        return None
    named = ", ".join(missing[:_MAX_NAMED]) + ", ..." * (len(missing) > _MAX_NAMED)
    return f"figures show boxes for {named}, which no installed font has; install one, such as Noto Sans"


def _lacking(text: str) -> str:
    """Return the different letters of a text that the figures' font lacks, sorted."""
    return (
        ""
        if text.isascii()
        else "".join(sorted({c for c in text if c.isprintable()} - _letters(font_manager.findfont(FONT))))
    )


@cache
def _letters(path: str) -> set[str]:
    """Return the letters of a font; none if it cannot be drawn at every size, like some of emoji."""
    with contextlib.suppress(OSError, RuntimeError):
        font = font_manager.get_font(path)
        if font.scalable:
            return set(map(chr, font.get_charmap()))
    return set()


@cache
def _fonts_for(lacking: str) -> tuple[list[str], str]:
    """Return few fonts that have as many of the letters as possible, and the letters that none has."""
    fonts: list[str] = []
    if lacking:
        _add_new_fonts()
    paths = {
        entry.name: entry.fname
        for entry in font_manager.fontManager.ttflist
        if (entry.style, entry.weight) == ("normal", _REGULAR) and not entry.name.startswith(_BOXES)
    }
    while lacking:
        best = max(sorted(paths), key=lambda name: len(_letters(paths[name]).intersection(lacking)))
        if not _letters(paths[best]).intersection(lacking):
            break
        fonts.append(best)
        lacking = "".join(letter for letter in lacking if letter not in _letters(paths[best]))
    return fonts, lacking


def _add_new_fonts() -> None:
    """Add the fonts that were installed after matplotlib wrote its list of them."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            font_manager.fontManager.addfont(path)
