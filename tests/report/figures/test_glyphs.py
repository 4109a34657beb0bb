"""Letters that the figures' font lacks come from another font, or are named."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import font_manager
from matplotlib.text import Text

from optstudy.report.figures import confusion, glyph_notice, glyphs, pdf, png

IN_STIX = "\N{LATIN SMALL LETTER D WITH PALATAL HOOK}"  # in STIX, packaged with matplotlib, not in DejaVu
NOWHERE = "\N{CJK UNIFIED IDEOGRAPH-732B}"
PACKAGED = Path(mpl.get_data_path())


@pytest.fixture(autouse=True)
def packaged_fonts_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    packaged = [
        entry for entry in font_manager.fontManager.ttflist if Path(entry.fname).is_relative_to(PACKAGED)
    ]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", packaged)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_: [])
    glyphs._fonts_for.cache_clear()
    yield
    glyphs._fonts_for.cache_clear()


def classes(*letters: str) -> dict[str, list[str]]:
    """Return the fonts of each class name of a figure."""
    figure = confusion(range(len(letters)), range(len(letters)), letters, "")
    glyphs.use_fonts(figure)
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return {text.get_text(): list(text.get_fontfamily()) for text in texts if text.get_text() in letters}


def test_only_texts_with_such_letters_take_another_font_after_the_figures_own() -> None:
    found = classes("a", f"b{IN_STIX}", "\N{GREEK SMALL LETTER ALPHA}")

    assert found["a"] == found["\N{GREEK SMALL LETTER ALPHA}"] == ["DejaVu Sans"]
    assert found[f"b{IN_STIX}"] == ["DejaVu Sans", "STIXGeneral"]


def test_a_letter_of_an_installed_font_is_drawn_with_it() -> None:
    drawn = confusion([0, 1], [0, 1], ["a", IN_STIX], "")

    with warnings.catch_warnings(action="error"):
        assert png(drawn)
        assert b"STIXGeneral" in pdf(drawn)
    assert glyph_notice([IN_STIX, "a"]) is None


def test_letters_that_no_font_has_are_named_and_drawn_as_boxes() -> None:
    drawn = confusion([0, 1], [0, 1], ["a", NOWHERE], "")

    with warnings.catch_warnings(action="error"):
        assert png(drawn)
    assert glyph_notice(["a", NOWHERE + NOWHERE]) == (
        f"figures show boxes for {NOWHERE}, which no installed font has; install one, such as Noto Sans"
    )


def test_a_font_installed_after_matplotlib_listed_them_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    stix = [entry for entry in font_manager.fontManager.ttflist if entry.name == "STIXGeneral"]
    others = [entry for entry in font_manager.fontManager.ttflist if entry not in stix]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", others)
    assert glyph_notice([IN_STIX]) is not None

    glyphs._fonts_for.cache_clear()
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_: [entry.fname for entry in stix])

    assert glyph_notice([IN_STIX]) is None


@pytest.mark.parametrize("text", ["plain", "\N{GREEK SMALL LETTER ALPHA}", "two\nlines", "tab\t\u200b", ""])
def test_ordinary_texts_need_nothing(text: str) -> None:
    assert glyph_notice([text]) is None
