"""A report's page reads well on a phone, a laptop and paper, for whatever its records have and lack."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import reports
from pages.browser import faults
from playwright.sync_api import Browser, Page

PAPER = 680  # CSS pixels between the margins of an A4 page of 15 mm each

CUT = """() => [...document.querySelectorAll(".scroll, pre")].filter(box => box.scrollWidth > box.clientWidth)
    .map(box => box.textContent.trim().slice(0, 40))"""
BEYOND = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """() => [...document.querySelectorAll("figure img")].filter(image => image.width < 300).length"""
APART = """() => [...document.querySelectorAll("figure")].filter(figure => {
    const style = getComputedStyle(figure);
    return style.breakInside !== "avoid";
}).length"""


@contextmanager
def opened(browser: Browser, folder: Path, width: int) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": 900})
    try:
        page = context.new_page()
        page.goto((folder / "index.html").as_uri())
        yield page
    finally:
        context.close()


EVERY = pytest.mark.parametrize("case", list(reports.CASES))


@EVERY
def test_the_page_has_no_fault(case: str, browser: Browser, once: reports.Once) -> None:
    assert faults(browser, reports.written(once, case) / "index.html") == []


@EVERY
def test_print_cuts_nothing_and_splits_no_figure(case: str, browser: Browser, once: reports.Once) -> None:
    with opened(browser, reports.written(once, case), PAPER) as page:
        page.emulate_media(media="print")

        assert page.evaluate(CUT) == []
        assert page.evaluate(BEYOND) == 0
        assert page.evaluate(APART) == 0


def test_wide_tables_scroll_in_their_own_box_on_a_phone(browser: Browser, once: reports.Once) -> None:
    with opened(browser, reports.written(once, "two_studies"), 390) as page:
        wide = page.evaluate(CUT)

        assert any(text.startswith("Study") for text in wide)
        assert page.evaluate(BEYOND) == 0
        assert page.evaluate(SMALL) == 0


def test_links_lead_to_sections(browser: Browser, once: reports.Once) -> None:
    with opened(browser, reports.written(once, "alone"), 1280) as page:
        targets = [link.get_attribute("href") or "" for link in page.locator("nav a").all()]

        assert len(targets) == 8
        assert all(page.locator(target).count() == 1 for target in targets)
