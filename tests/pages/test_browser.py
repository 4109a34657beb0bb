"""The check of HTML pages finds each fault that it is there to find, and none in a sound page."""

import base64
from pathlib import Path

import pytest
from pages.browser import faults
from playwright.sync_api import Browser

PIXEL = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
).decode()
SOUND = f'<p>Hello <a href="#x">there</a></p><img alt="a dot" src="data:image/png;base64,{PIXEL}">'


def written(folder: Path, body: str, style: str = ":root { color-scheme: light dark }") -> Path:
    page = folder / "page.html"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title><style>{style}</style>{body}'
    )
    return page


def test_a_sound_page_has_no_fault(browser: Browser, tmp_path: Path) -> None:
    assert faults(browser, written(tmp_path, SOUND)) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>console.error('no luck')</script>", "logs an error: no luck"),
        ("<script>absent()</script>", "raises an error: absent is not defined"),
        ("<img src='gone.png' alt='a chart'>", "does not show a chart"),
        ("<img src='gone.png' alt='a chart' loading='lazy' style='margin-top: 9000px'>", "does not show a chart"),
        ("<details><img src='gone.png' alt='a chart'></details>", "does not show a chart"),
        ("<img src='data:image/png;base64,AAAA' alt='a chart'>", "does not show a chart"),
        ("<link rel='stylesheet' href='https://example.org/a.css'>", "asks the network for https://example.org/a.css"),
        ("<script>new WebSocket('ws://127.0.0.1:9')</script>", "asks the network for ws://127.0.0.1:9"),
        ("<div style='width: 500px'>wide</div>", "is 118 px wider than a window of 390 px"),
        ("<details><div style='width: 500px'>wide</div></details>", "is 118 px wider than a window of 390 px"),
        ("<p style='color: black'>ink</p>", "is hard to read in dark mode: ink (1.1)"),
        ("<p style='color: #999; background: white'>pale</p>", "is hard to read in light mode: pale (2.8)"),
        ("<style>@media print { body { display: none } }</style>", "prints blank"),
    ],
)  # fmt: skip
def test_a_fault_is_said(body: str, fault: str, browser: Browser, tmp_path: Path) -> None:
    assert [said for said in faults(browser, written(tmp_path, SOUND + body)) if said.startswith(fault)]


def test_a_file_that_is_missing_is_named(browser: Browser, tmp_path: Path) -> None:
    page = written(tmp_path, SOUND + "<link rel='stylesheet' href='gone.css'>")

    assert f"cannot load {(tmp_path / 'gone.css').as_uri()}" in faults(browser, page)


def test_a_page_that_stays_light_is_said(browser: Browser, tmp_path: Path) -> None:
    assert faults(browser, written(tmp_path, SOUND, style="")) == ["stays light in dark mode"]
